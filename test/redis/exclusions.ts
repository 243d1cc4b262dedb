import type { RedisServer } from '../../toolchain/redis.js';

/** A test of the servers' own that is left out, for the stock server as well. */
export interface Exclusion {
  readonly server?: RedisServer;
  /** Its name, or with a slash in front a pattern, as `runtest --skiptest` takes it. */
  readonly test: string;
  readonly reason: string;
}

export const exclusions: readonly Exclusion[] = [];

/** Files left out as a whole. */
export const excludedFiles: Readonly<Record<string, string>> = {
  'unit/tls': 'needs certificates and a Tcl with TLS; such connections are not FastIO’s',
  'integration/cross-version-replication': 'needs a server of another version',
  'integration/corrupt-dump-fuzzer':
    'feeds random bytes to the loader for minutes; no connection is involved',
};
