import { readFile, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, jest } from '@jest/globals';
import type { KernelReport } from '../vm.js';
import { createScanner, type ScannerOptions } from './scan.js';

const recorded = join(dirname(fileURLToPath(import.meta.url)), 'recorded');

function scan(text: string, options: ScannerOptions = {}): readonly KernelReport[] {
  const scanner = createScanner(options);
  scanner.feed(Buffer.from(text));
  return scanner.trouble(0).reports;
}

/** Lines as the kernel prints them. */
function kernel(...lines: readonly string[]): string {
  return lines.map((line, index) => `[   12.${String(index).padStart(6, '0')}] ${line}\r\n`).join('');
}

it.each<[KernelReport['severity'], string]>([
  ['panic', 'Kernel panic - not syncing: sysrq triggered crash'],
  ['oops', 'Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010'],
  ['oops', 'Unable to handle kernel paging request at virtual address dead000000000122'],
  ['oops', 'BUG: kernel NULL pointer dereference, address: 0000000000000010'],
  ['oops', 'BUG: unable to handle page fault for address: ffffffffdeadbeef'],
  ['oops', 'Internal error: Oops - BUG: 00000000f2000800 [#1] SMP'],
  ['oops', 'kernel BUG at mm/slub.c:553!'],
  ['oops', 'general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] SMP'],
  ['oops', 'Insufficient stack space to handle exception!'],
  ['oops', 'BUG: KASAN: slab-use-after-free in fastio_worker+0x1c/0x40 [fastio]'],
  ['oops', 'BUG: KFENCE: use-after-free read in test_use_after_free_read+0xb3/0x143'],
  ['oops', 'BUG: KCSAN: data-race in fastio_poll / fastio_submit'],
  ['oops', 'BUG: scheduling while atomic: fastio/0/412/0x00000002'],
  ['oops', 'BUG: sleeping function called from invalid context at mm/page_alloc.c:4567'],
  ['oops', 'BUG: Bad page state in process swapper/0  pfn:3fe00'],
  ['oops', 'BUG kmalloc-64 (Tainted: G           OE     ): Poison overwritten'],
  ['oops', 'BUG: spinlock bad magic on CPU#1, fastio/0/412'],
  ['warning', 'WARNING: CPU: 1 PID: 412 at kernel/fastio.c:93 fastio_release+0x1c/0x40 [fastio]'],
  ['warning', 'WARNING: possible circular locking dependency detected'],
  ['warning', 'WARNING: possible recursive locking detected'],
  ['warning', 'WARNING: possible irq lock inversion dependency detected'],
  ['warning', 'WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected'],
  ['warning', 'WARNING: inconsistent lock state'],
  ['warning', 'WARNING: bad unlock balance detected!'],
  ['warning', 'WARNING: lock held when returning to user space!'],
  ['warning', 'WARNING: suspicious RCU usage'],
  ['warning', 'INFO: trying to register non-static key.'],
  ['warning', 'UBSAN: array-index-out-of-bounds in drivers/fastio/ring.c:77:12'],
  ['warning', 'refcount_t: underflow; use-after-free.'],
  ['warning', 'list_del corruption. prev->next should be ffff000003a1c010, but was dead000000000100'],
  ['warning', 'list_add corruption. next->prev should be prev (ffff0), but was ffff1. (next=ffff2).'],
  ['warning', 'kmemleak: 5 new suspected memory leaks (see /sys/kernel/debug/kmemleak)'],
  ['warning', 'usercopy: Kernel memory exposure attempt detected from SLUB object!'],
  ['hang', 'watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [insmod:412]'],
  ['hang', 'watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 0'],
  ['hang', 'INFO: task insmod:412 blocked for more than 120 seconds.'],
  ['hang', 'rcu: INFO: rcu_sched self-detected stall on CPU'],
  ['hang', 'rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:'],
  ['hang', 'rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-... } 21 jiffies'],
  ['hang', 'unregister_netdevice: waiting for eth0 to become free. Usage count = 2'],
  ['hang', 'BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 nice=0 stuck for 31s!'],
])('recognises as %s: %s', (severity, headline) => {
  const reports = scan(kernel('fastio: loaded', headline, 'what follows'));

  expect(reports).toEqual([{ severity, headline, lines: [expect.stringContaining('what follows')] }]);
});

it.each([
  [
    'words of a program',
    'BUG: this is a program speaking\nWARNING: CPU on fire\nKernel panic - not syncing\n',
  ],
  ['a quotation in a kernel line', kernel('fastio: would say BUG: KASAN: if it were broken')],
  ['the kernel command line', kernel('Kernel command line: panic=-1 oops=panic')],
  ['a note about a taint', kernel('fastio: loading out-of-tree module taints kernel.')],
  ['debugging information', kernel('DEBUG: all is well', 'INFO: nothing is wrong')],
])('does not mistake for trouble: %s', (_, text) => {
  expect(scan(text)).toEqual([]);
});

it('takes the lines of one oops for one report, and the panic it leads to for another', () => {
  const reports = scan(
    kernel(
      'Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010',
      'Mem abort info:',
      'Internal error: Oops: 0000000096000004 [#1] SMP',
      'Call trace:',
      ' fastio_poll+0x10/0x20 [fastio]',
      '---[ end trace 0000000000000000 ]---',
      'Kernel panic - not syncing: Oops: Fatal exception',
    ),
  );

  expect(reports.map(({ severity }) => severity)).toEqual(['oops', 'panic']);
  expect(reports[0]?.lines).toHaveLength(5);
});

it('finds trouble wherever the stream is cut, and in a line a program has begun', () => {
  const text = `$ insmod x.ko${kernel('WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2')}`;
  const scanner = createScanner();

  for (const byte of Buffer.from(text)) scanner.feed(Uint8Array.of(byte));

  expect(scanner.trouble(0).reports.map(({ headline }) => headline)).toEqual([
    'WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2',
  ]);
});

it('hands out only what came after a mark', () => {
  const scanner = createScanner();
  scanner.feed(Buffer.from(kernel('WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2')));
  const { mark } = scanner.trouble(0);
  const before = scanner.trouble(mark).reports;

  scanner.feed(
    Buffer.from(kernel('------------[ cut here ]------------', 'WARNING: CPU: 1 PID: 2 at b.c:1 g')),
  );

  expect(before).toEqual([]);
  expect(scanner.trouble(mark).reports.map(({ headline }) => headline)).toEqual([
    'WARNING: CPU: 1 PID: 2 at b.c:1 g',
  ]);
});

it('passes over an allowed report and its lines until the day it expires', () => {
  const text = kernel(
    'WARNING: CPU: 0 PID: 1 at old/bug.c:7 f',
    'Call trace:',
    '---[ end trace 0000000000000000 ]---',
  );
  const allow = [{ headline: /at old\/bug\.c:/, reason: 'fixed upstream in 6.13', until: '2026-03-31' }];

  const onTheDay = scan(text, { allow, now: () => new Date('2026-03-31T23:59:00Z') });
  const after = scan(text, { allow, now: () => new Date('2026-04-01T00:00:00Z') });

  expect(onTheDay).toEqual([]);
  expect(after).toHaveLength(1);
});

it('keeps at most 60 lines of a report, 200 of the console, and cuts endless lines', () => {
  const scanner = createScanner();
  const onLine = jest.fn();
  const cutting = createScanner({ onLine });

  scanner.feed(
    Buffer.from(
      kernel('WARNING: CPU: 0 PID: 1 at a.c:1 f', ...Array.from({ length: 500 }, (_, i) => `line ${i}`)),
    ),
  );
  for (let i = 0; i < 100; i++) cutting.feed(Buffer.alloc(10_000, 'x'));
  cutting.feed(Buffer.from('\n'));

  expect(scanner.trouble(0).reports[0]?.lines).toHaveLength(60);
  expect(scanner.lastLines(1_000)).toHaveLength(200);
  expect(onLine).toHaveBeenCalledTimes(1);
  expect((onLine.mock.calls[0]?.[0] as string).length).toBeLessThanOrEqual(4_096);
});

it('begins with the reports of a console it continues', () => {
  const earlier: KernelReport[] = [{ severity: 'warning', headline: 'WARNING: at boot', lines: [] }];

  expect(createScanner({ earlier }).trouble(0)).toEqual({ mark: 1, reports: earlier });
});

it.each(await readdir(recorded))('reads the console of a real guest: %s', async (name) => {
  const [expected = '', ...console] = (await readFile(join(recorded, name), 'utf8')).split('\n');

  const reports = scan(console.join('\n'));

  // The first line of each recording says what is in it.
  expect(reports.map(({ severity }) => severity).join(' ')).toBe(expected.replace('expected: ', ''));
});
