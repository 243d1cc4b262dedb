import { dirname, join, resolve } from 'node:path';
import type { BuildArtifacts } from '../suites/run/options.js';
import type { SuiteServer } from '../suites/schema/suite.js';
import { addonPrograms } from '../toolchain/addon.js';
import type { Placed } from '../toolchain/artifacts.js';
import { echoPrograms, layOut, ownPrograms } from '../toolchain/artifacts.js';
import { portableNode, portableServers } from '../toolchain/portable-programs.js';
import { redisModules } from '../toolchain/redis.js';
import { buildModule } from '../toolchain/targets.js';
import { projectRoot } from '../vm/paths.js';

/** Builds all that a suite's servers need in a guest: the project's own programs and those the suite defines. */
export const buildArtifacts: BuildArtifacts = async ({ arch, kernel, clock, suite: loaded }, work) => {
  const { name: suite, file, suite: definition } = loaded;
  const files: Placed[] = [...(await echoPrograms(projectRoot, arch, work))];
  if (Object.values(definition.servers).some(isRedis)) {
    files.push(...(await redisModules(projectRoot, arch, work)), ...(await portableServers(arch, work)));
  }
  if (Object.values(definition.servers).some(isNode)) {
    files.push(...(await addonPrograms(projectRoot, arch, work)));
    // Guests by the wall clock have a userland.
    if (clock === 'virtual') files.push(...(await portableNode(arch, work)));
  }
  for (const [name, module] of Object.entries(definition.modules)) {
    const directory =
      module.source === undefined ? join(projectRoot, 'kmod') : resolve(dirname(file), module.source);
    const built = await buildModule({ directory, name, arch, kernel }, work);
    files.push({ from: built.path, to: `modules/${name}.ko` });
  }
  for (const [name, server] of Object.entries(definition.servers)) {
    if (server.source === undefined || server.files === undefined) continue;
    const source = {
      name,
      directory: resolve(dirname(file), server.source),
      files: server.files,
      ...(server.build === undefined ? {} : { build: server.build }),
    };
    files.push(...(await ownPrograms(source, arch, `servers/${suite}/${name}`, work)));
  }
  return layOut(files, work.signal);
};

/** Whether a server is Debian's Valkey or Redis, with the project's module in it or without. */
function isRedis({ run }: SuiteServer): boolean {
  return [run].flat().some((word) => /\b(valkey|redis)-server\b/.test(word));
}

/** Whether a server is Node with the addon's examples. */
function isNode({ run }: SuiteServer): boolean {
  return [run].flat().some((word) => /\bnode-echo\b/.test(word));
}
