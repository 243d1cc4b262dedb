import { totalmem } from 'node:os';
import { FastioError } from '../errors.js';
import type { VmSpec } from '../vm.js';

const mebibyte = 1024 * 1024;
/** QEMU itself, its translation cache and the host's own needs, in MiB. */
const hostReserveMiB = 256;

/** @throws FastioError USAGE or HOST_UNSUPPORTED for a machine that cannot be, naming what was found and expected. */
export function checkSpec(spec: VmSpec, hostMemoryMiB: number = totalmem() / mebibyte): void {
  expectInteger('cpus', spec.cpus, 1, 64);
  expectInteger('memory in MiB', spec.memoryMiB, 256, 1_048_576);
  if (spec.forwards.length > 32) throw usage(`found ${spec.forwards.length} forwards, at most 32 expected`);
  for (const { hostPort, guestPort } of spec.forwards) {
    expectInteger('port of the host', hostPort, 0, 65_535);
    expectInteger('port of the guest', guestPort, 1, 65_535);
  }
  const taken = spec.forwards.map(({ hostPort }) => hostPort).filter((port) => port !== 0);
  const twice = taken.find((port, index) => taken.indexOf(port) !== index);
  if (twice !== undefined) throw usage(`port ${twice} of the host is forwarded twice`);
  const badWord = spec.kernelArgs.find((word) => /[\s\0]/.test(word) || word === '');
  if (badWord !== undefined) throw usage(`'${badWord}' is not one word of a kernel command line`);
  if (spec.memoryMiB + hostReserveMiB > hostMemoryMiB) {
    throw new FastioError(
      'HOST_UNSUPPORTED',
      `a guest of ${spec.memoryMiB} MiB does not fit this machine's ${Math.floor(hostMemoryMiB)} MiB`,
      'Give the guest less --memory.',
    );
  }
}

function expectInteger(what: string, found: number, least: number, most: number): void {
  if (Number.isInteger(found) && found >= least && found <= most) return;
  throw usage(`${what}: found ${found}, expected a whole number from ${least} to ${most}`);
}

function usage(message: string): FastioError {
  return new FastioError('USAGE', message, 'Correct the guest’s specification.');
}
