import { FastioError, type ErrorCode } from '../errors.js';
import type { KernelReport } from '../vm.js';
import type { QemuExit } from './qemu-process.js';

/** What is known at the moment a guest fails. */
export interface Evidence {
  /** Where console.log and qemu.log stay; see logs.ts. */
  readonly directory: string;
  readonly lastLines: readonly string[];
  /** What the console scanner recognised. */
  readonly reports: readonly KernelReport[];
  /** The end of what QEMU wrote to stderr. */
  readonly messages: string;
}

/** Console lines an error carries. */
const detailLines = 30;

/** The error with which a kernel report ends a run. */
export function kernelReportToError(report: KernelReport, directory?: string): FastioError {
  const kinds: Record<KernelReport['severity'], readonly [code: ErrorCode, did: string]> = {
    panic: ['GUEST_PANIC', 'panicked'],
    oops: ['GUEST_OOPS', 'oopsed'],
    warning: ['GUEST_WARNING', 'warned'],
    hang: ['GUEST_HANG', 'hangs'],
  };
  const [code, did] = kinds[report.severity];
  const where = directory === undefined ? 'console.log of the guest' : `${directory}/console.log`;
  return new FastioError(code, `the guest's kernel ${did}: ${report.headline}`, `Read ${where}.`, {
    detail: [report.headline, ...report.lines],
  });
}

/** Why QEMU ended, in the terms of whoever waited for the guest. */
export function explainExit(exit: QemuExit, evidence: Evidence): FastioError {
  const fatal =
    evidence.reports.find(({ severity }) => severity === 'panic') ??
    evidence.reports.find(({ severity }) => severity === 'oops');
  if (fatal !== undefined) {
    // An oops is made fatal by a kernel argument of ours: the oops is what happened, the panic is how it ended.
    const oops = evidence.reports.findLast(({ severity }) => severity === 'oops');
    const cause = oops !== undefined && fatal.headline.includes('Oops') ? oops : fatal;
    return kernelReportToError(cause, evidence.directory);
  }
  const known = explainMessages(evidence.messages, evidence);
  if (known !== undefined) return known;
  const init = evidence.lastLines.findLast((line) => line.includes('fastio-init: '));
  if (init !== undefined) {
    return failure('GUEST_NOT_RUNNING', `the guest could not start: ${init.trim()}`, evidence, {
      remedy: 'Rebuild the image with `fastio clean` and `fastio image build`.',
    });
  }
  if (exit.signal === 'SIGKILL') {
    return failure('QEMU_GONE', 'QEMU was killed (by hand, or for want of memory)', evidence, {
      remedy: 'Look for "Out of memory" in the host’s kernel log, or give the guest less --memory.',
    });
  }
  if (exit.signal === 'SIGBUS') {
    return failure('DISK_FULL', 'QEMU lost the file behind the guest’s memory: its disk is full', evidence, {
      remedy: 'Free some space, or set FASTIO_CACHE to a larger disk.',
    });
  }
  if (exit.signal !== null || exit.status !== 0) {
    const how = exit.signal === null ? `ended with status ${exit.status ?? '?'}` : `died of ${exit.signal}`;
    return failure('QEMU_GONE', `QEMU ${how}: ${lastMessage(evidence.messages)}`, evidence);
  }
  return failure('QEMU_GONE', 'the guest powered itself off', evidence);
}

/** Failures that QEMU itself names on stderr. */
export function explainMessages(messages: string, evidence: Evidence): FastioError | undefined {
  const line = lastMessage(messages);
  if (messages.includes('Could not set up host forwarding rule')) {
    const rule = /host forwarding rule '([^']*)'/.exec(messages)?.[1] ?? line;
    return failure('PORT_TAKEN', `a port to forward is in use: ${rule}`, evidence, {
      remedy: 'Choose another port, or 0 to let the system choose.',
    });
  }
  if (/Cannot allocate memory|cannot set up guest memory/.test(messages)) {
    return failure('HOST_UNSUPPORTED', `not enough memory for the guest: ${line}`, evidence, {
      remedy: 'Give the guest less --memory, or free some.',
    });
  }
  if (messages.includes('No space left on device')) {
    return failure('DISK_FULL', `QEMU found the disk full: ${line}`, evidence, {
      remedy: 'Free some space, or set FASTIO_CACHE to a larger disk.',
    });
  }
  if (messages.includes('KVM internal error')) {
    return failure('ACCEL_UNAVAILABLE', `KVM cannot run the guest: ${line}`, evidence, {
      remedy: 'Use --accel tcg.',
    });
  }
  return undefined;
}

/** QEMU ended before the guest's kernel said a word. */
export function explainNoStart(exit: QemuExit, evidence: Evidence): FastioError {
  const known = explainMessages(evidence.messages, evidence);
  if (known !== undefined) return known;
  if (exit.signal === 'SIGKILL' || exit.signal === 'SIGBUS') return explainExit(exit, evidence);
  const how = exit.signal ?? `status ${exit.status ?? '?'}`;
  return failure('QEMU_START', `QEMU did not start (${how}): ${lastMessage(evidence.messages)}`, evidence, {
    remedy: 'Run `fastio doctor`; QEMU’s own words are in qemu.log.',
  });
}

/** The kernel has printed nothing at all. */
export function explainNoOutput(ms: number, evidence: Evidence): FastioError {
  return failure('GUEST_HANG', `the guest's kernel printed nothing for ${seconds(ms)}`, evidence, {
    remedy: 'Try --accel tcg, or `fastio image verify`.',
  });
}

/** The kernel printed something and then stopped before the agent answered. */
export function explainSilence(ms: number, evidence: Evidence): FastioError {
  const last = evidence.lastLines.at(-1) ?? '';
  return failure(
    'GUEST_HANG',
    `the guest stopped booting: silent for ${seconds(ms)} after "${last}"`,
    evidence,
  );
}

/** The console goes on but the agent does not answer. */
export function explainNoAgent(ms: number, evidence: Evidence): FastioError {
  return failure(
    'GUEST_HANG',
    `the guest's agent did not answer within ${seconds(ms)} of the start`,
    evidence,
  );
}

/** A guest that was up does not answer any more. */
export function explainHang(ms: number, evidence: Evidence): FastioError {
  return failure('GUEST_HANG', `the guest hangs: no answer from its agent within ${seconds(ms)}`, evidence, {
    remedy: `Read ${evidence.directory}/console.log and qemu.log: they hold back traces and registers.`,
  });
}

function failure(
  code: ErrorCode,
  message: string,
  { directory, lastLines }: Evidence,
  { remedy = `Read ${directory}/console.log.` }: { readonly remedy?: string } = {},
): FastioError {
  return new FastioError(code, message, remedy, { detail: lastLines.slice(-detailLines) });
}

function lastMessage(messages: string): string {
  return (
    messages
      .trimEnd()
      .split('\n')
      .at(-1)
      ?.replace(/^\S*qemu-system-\w+: /, '') ?? ''
  );
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1_000)} s`;
}
