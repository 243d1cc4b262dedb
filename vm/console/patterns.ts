import type { KernelReport } from '../vm.js';

/** How one kind of kernel report begins, as printed after the line's timestamp. */
export interface ReportPattern {
  readonly severity: KernelReport['severity'];
  readonly start: RegExp;
  /** Part of a report that is already open, when there is one: the second line of an oops, say. */
  readonly joins?: boolean;
}

/** The first that matches a line decides. Every start is anchored, so that quoted text does not match. */
export const reportPatterns: readonly ReportPattern[] = [
  { severity: 'panic', start: /^Kernel panic - not syncing/ },

  { severity: 'oops', start: /^Unable to handle kernel / },
  { severity: 'oops', start: /^BUG: unable to handle (?:page fault|kernel )/ },
  { severity: 'oops', start: /^BUG: kernel NULL pointer dereference/ },
  { severity: 'oops', start: /^kernel BUG at / },
  { severity: 'oops', start: /^Internal error: /, joins: true },
  { severity: 'oops', start: /^Oops: /, joins: true },
  { severity: 'oops', start: /^(?:general protection fault|double fault|divide error|invalid opcode)\b/ },
  { severity: 'oops', start: /^Bad mode in .* handler detected/ },
  { severity: 'oops', start: /^Unhandled (?:64-bit el1h sync|fault|prefetch abort) / },
  { severity: 'oops', start: /^SError Interrupt on CPU/ },
  { severity: 'oops', start: /^Insufficient stack space to handle exception/ },

  { severity: 'oops', start: /^BUG: KASAN: / },
  { severity: 'oops', start: /^BUG: KFENCE: / },
  { severity: 'oops', start: /^BUG: KMSAN: / },
  { severity: 'oops', start: /^BUG: KCSAN: / },
  { severity: 'warning', start: /^UBSAN: / },

  { severity: 'hang', start: /^watchdog: BUG: soft lockup/ },
  { severity: 'hang', start: /^watchdog: (?:CPU\d+: )?Watchdog detected hard LOCKUP/i },
  { severity: 'hang', start: /^BUG: workqueue lockup/ },
  { severity: 'hang', start: /^INFO: task .* blocked for more than \d+ seconds/ },
  {
    severity: 'hang',
    start: /^(?:rcu: )?INFO: rcu\w* (?:self-)?detected (?:expedited )?stalls? on/,
  },
  { severity: 'hang', start: /^rcu: rcu\w* kthread (?:starved|timer wakeup didn't happen)/, joins: true },
  { severity: 'hang', start: /^unregister_netdevice: waiting for / },

  // lockdep, in the words of kernel/locking/lockdep.c.
  { severity: 'warning', start: /^WARNING: possible (?:circular locking|recursive locking|irq lock)/ },
  { severity: 'warning', start: /^WARNING: .* (?:lock order dependency|lock held when returning)/ },
  { severity: 'warning', start: /^WARNING: (?:bad unlock balance|inconsistent lock state|held lock freed)/ },
  { severity: 'warning', start: /^WARNING: (?:lock held|Nested lock|suspicious RCU usage)/ },
  { severity: 'warning', start: /^INFO: trying to register non-static key/ },

  { severity: 'warning', start: /^refcount_t: / },
  { severity: 'warning', start: /^list_(?:add|del) corruption/ },
  // Every one of these follows a "cut here", which ends what was open, or the words of refcount_t and others.
  { severity: 'warning', start: /^WARNING: CPU: /, joins: true },
  { severity: 'warning', start: /^WARNING: / },
  { severity: 'warning', start: /^kmemleak: \d+ new suspected memory leaks/ },
  { severity: 'warning', start: /^Kernel memory overwrite attempt detected/ },
  { severity: 'warning', start: /^usercopy: Kernel memory (?:exposure|overwrite) attempt/ },

  // The slab allocator, sleeping in atomic context, scheduling while atomic, bad page states, ...
  { severity: 'oops', start: /^BUG(?: \w[^:]*)?(?: \(.*\))?: / },
  { severity: 'warning', start: /^sysfs: cannot create duplicate filename/ },
];

/** A line after which the report before it is complete. */
export const reportEnd =
  /^(?:---\[ end (?:trace|Kernel panic)|={20,}$|------------\[ cut here \]------------)/;
