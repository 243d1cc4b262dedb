import type { Accel, PortForward, VmSpec } from '../vm.js';

/** Where QEMU finds what it needs; everything else about a machine follows from the spec. */
export interface MachinePaths {
  readonly kernel: string;
  readonly initrd: string;
  readonly base: string;
  readonly kernelLayer: string;
  /** A sparse file that carries files into the guest; see channel/files.ts. */
  readonly transfer: string;
  /** Guest memory as a file: written through to make a template, private to resume from one. */
  readonly memory?: { readonly path: string; readonly shared: boolean };
}

/** Descriptors QEMU inherits, each one end of a socket pair. */
export const inherited = { agent: 3, qmp: 4, console: 5 } as const;

export const agentPortName = 'fastio.agent';

/**
 * QEMU's arguments for a guest: data in, data out. The order of the disks decides their names in the guest.
 * `resume` makes QEMU wait for a snapshot instead of booting.
 */
export function qemuArguments(
  spec: VmSpec,
  accel: Accel,
  paths: MachinePaths,
  resume: boolean,
): readonly string[] {
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-name', 'fastio'],
    ...machineArguments(spec, accel, paths.memory !== undefined),
    ...['-smp', `${spec.cpus}`, '-m', `${spec.memoryMiB}M`],
    ...memoryArguments(spec, paths.memory),
    ...['-kernel', paths.kernel, '-initrd', paths.initrd, '-append', kernelCommandLine(spec)],
    ...chardevArguments(),
    ...['-device', 'virtio-serial-pci,max_ports=2'],
    ...['-device', `virtserialport,chardev=agent,name=${agentPortName}`],
    ...[paths.base, paths.kernelLayer, paths.transfer].flatMap(diskArguments),
    ...networkArguments(spec.forwards),
    ...(resume ? ['-incoming', 'defer'] : []),
    ...spec.qemuArgs,
  ];
}

/** The part that depends on the accelerator. */
export function machineArguments(spec: VmSpec, accel: Accel, ownMemory: boolean): readonly string[] {
  const own = (option: string): boolean => spec.qemuArgs.includes(option);
  const machine = spec.arch === 'arm64' ? 'virt,gic-version=3' : 'q35,hpet=off';
  const cpu = accel !== 'tcg' ? 'host' : spec.arch === 'arm64' ? 'cortex-a57' : 'Nehalem';
  return [
    // A caller that brings its own replaces ours: QEMU would try several accelerators in turn.
    ...(own('-M') || own('-machine')
      ? []
      : ['-machine', `${machine}${ownMemory ? ',memory-backend=ram' : ''}`]),
    ...(own('-cpu') ? [] : ['-cpu', cpu]),
    ...(own('-accel') ? [] : ['-accel', accel === 'tcg' ? 'tcg,thread=multi' : accel]),
  ];
}

function memoryArguments(spec: VmSpec, memory: MachinePaths['memory']): readonly string[] {
  if (memory === undefined) return [];
  const share = memory.shared ? 'on' : 'off';
  return [
    '-object',
    `memory-backend-file,id=ram,size=${spec.memoryMiB}M,mem-path=${escapeComma(memory.path)},share=${share}`,
  ];
}

function chardevArguments(): readonly string[] {
  return [
    ...Object.entries(inherited).flatMap(([id, fd]) => ['-chardev', `socket,id=${id},fd=${fd}`]),
    ...['-mon', 'chardev=qmp,mode=control', '-serial', 'chardev:console'],
  ];
}

function diskArguments(path: string, index: number): readonly string[] {
  const id = `disk${index}`;
  return [
    '-drive',
    `if=none,id=${id},format=raw,readonly=on,file.locking=off,file=${escapeComma(path)}`,
    '-device',
    `virtio-blk-pci,drive=${id}`,
  ];
}

function networkArguments(forwards: readonly PortForward[]): readonly string[] {
  if (forwards.length === 0) return [];
  const rules = forwards.map(({ hostPort, guestPort }) => `,hostfwd=tcp:127.0.0.1:${hostPort}-:${guestPort}`);
  return [
    ...['-netdev', `user,id=net,restrict=on,ipv6=off${rules.join('')}`],
    ...['-device', 'virtio-net-pci,netdev=net,romfile='],
  ];
}

/** Everything the kernel says reaches the console, so that no complaint is missed; an oops is the end. */
export function kernelCommandLine(spec: VmSpec): string {
  const console = spec.arch === 'arm64' ? 'ttyAMA0' : 'ttyS0';
  return [
    `console=${console}`,
    ...['loglevel=7', 'panic=-1', 'oops=panic', 'sysrq_always_enabled=1'],
    ...spec.kernelArgs,
  ].join(' ');
}

/** Inside an option's value QEMU reads a comma as the end, unless doubled. */
function escapeComma(path: string): string {
  return path.replaceAll(',', ',,');
}
