import { projectRoot } from '../vm/paths.js';
import type { Report } from '../vm/progress.js';
import type { Arch } from '../vm/vm.js';
import { buildAddon, placePrebuilt } from './addon.js';

/** `npm run addon`: builds the addon's native half for both architectures and puts it where Node finds it. */
const report: Report = (event) => {
  if (event.kind === 'stage') process.stderr.write(`==> ${event.name} ${event.detail ?? ''}\n`);
  if (event.kind === 'warning') process.stderr.write(`warning: ${event.message}\n`);
};
const stop = new AbortController();
process.once('SIGINT', () => {
  stop.abort(new Error('interrupted'));
});
for (const arch of ['x86_64', 'arm64'] satisfies Arch[]) {
  const built = await buildAddon(projectRoot, arch, 'release', { report, signal: stop.signal });
  process.stdout.write(`${await placePrebuilt(projectRoot, arch, built)}\n`);
}
