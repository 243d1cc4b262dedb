import { FastioError } from '../errors.js';
import { until } from '../wait.js';
import type { Qmp } from './qmp.js';

const pollMs = 10;

interface MigrationStatus {
  readonly status?: string;
  readonly 'error-desc'?: string;
}

/**
 * Writes the state of devices and vCPUs to `path`, but not the memory, which is in a shared file already. The
 * guest stands still from then on.
 * @throws FastioError QEMU_START when QEMU cannot.
 */
export async function saveSnapshot(qmp: Qmp, path: string, signal: AbortSignal): Promise<void> {
  await qmp.execute('stop', {}, signal);
  await leaveMemoryOut(qmp, signal);
  await qmp.execute('migrate', { uri: `file:${path}` }, signal);
  await finished(qmp, 'saved', signal);
}

/** Resumes a guest, started to wait for one, from a snapshot. @throws FastioError QEMU_START when it does not fit. */
export async function loadSnapshot(qmp: Qmp, path: string, signal: AbortSignal): Promise<void> {
  await leaveMemoryOut(qmp, signal);
  await qmp.execute('migrate-incoming', { uri: `file:${path}` }, signal);
  await finished(qmp, 'resumed', signal);
  // The guest stood still when it was saved, and the snapshot says so.
  await qmp.execute('cont', {}, signal);
}

async function leaveMemoryOut(qmp: Qmp, signal: AbortSignal): Promise<void> {
  const capabilities = [{ capability: 'x-ignore-shared', state: true }];
  await qmp.execute('migrate-set-capabilities', { capabilities }, signal);
}

async function finished(qmp: Qmp, what: string, signal: AbortSignal): Promise<void> {
  await until(
    async () => {
      const info = (await qmp.execute('query-migrate', {}, signal)) as MigrationStatus;
      if (info.status === 'failed' || info.status === 'cancelled') {
        throw new FastioError(
          'QEMU_START',
          `the snapshot could not be ${what}: ${info['error-desc'] ?? info.status}`,
          'Read qemu.log in the guest’s directory.',
        );
      }
      return info.status === 'completed';
    },
    { everyMs: pollMs, signal },
  );
}
