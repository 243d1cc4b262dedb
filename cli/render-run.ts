import type { Progress } from '../vm/progress.js';

type Event<K extends Progress['kind']> = Extract<Progress, { kind: K }>;

/** `6 points, 36 runs in 2 boots, about 4 min (seed 7)`. */
export function planText({ points, runs, boots, seconds, seed }: Event<'plan'>): string {
  return `${points} points, ${runs} runs in ${boots} boots, about ${durationText(seconds)} (seed ${seed})`;
}

/** One line of a measurement's progress: `[3/36] fastio x3: done, 3 min left`. */
export function runText({ phase, index, total, point, remainingSeconds, message }: Event<'run'>): string {
  const left = `, ${durationText(remainingSeconds)} left`;
  return `[${index}/${total}] ${point}: ${phase}${left}${message === undefined ? '' : `: ${message}`}`;
}

/** `45 s`, `3 min`, `1 h 20 min`. */
export function durationText(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
