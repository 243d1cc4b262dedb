import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Writes a suite of two servers and windows of two milliseconds: enough to compare every bit. */
export function writeSuite(directory: string): string {
  const file = join(directory, 'tiny.yaml');
  writeFileSync(
    file,
    `purpose: Are figures the same in a container as they are outside of one?
vm: { cpus: 4, memoryMiB: 512 }
baseline: { server: epoll, workers: 1 }
modules:
  fastio: {}
servers:
  epoll:
    run: epoll --port {port} --threads {workers} --cpus {serverCpus}
  fastio:
    module: fastio
    run: fastio --port {port} --conf {conf} --backend kernel --workers 0 --cpus {serverCpus} --mode fused
load: { threads: 2 }
profiles:
  quick:
    boots: 1
    processes: 1
    windows: 2
    windowMs: { wall: 200, virtual: 2 }
    warmupMs: { wall: 50, virtual: 1 }
    points:
      - { servers: [epoll, fastio], workers: [1], connections: [4], messageBytes: [64] }
`,
  );
  return file;
}
