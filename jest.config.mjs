/** Options all projects share: TypeScript through swc, as ES modules. */
const shared = {
  testEnvironment: '<rootDir>/test/environment.mjs',
  extensionsToTreatAsEsm: ['.ts'],
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' }, module: { type: 'es6' } },
    ],
  },
  testPathIgnorePatterns: ['/node_modules/', '/dist/'],
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
};

export default {
  projects: [
    {
      ...shared,
      displayName: 'unit',
      testMatch: ['<rootDir>/{cli,suites,vm,toolchain,kmod,lib,echo,addon,redis}/**/*.test.ts'],
      setupFilesAfterEnv: ['<rootDir>/test/unit-setup.mjs'],
    },
    {
      ...shared,
      displayName: 'guest',
      testMatch: ['<rootDir>/test/guest/**/*.test.ts'],
      setupFilesAfterEnv: ['<rootDir>/test/guest-setup.mjs'],
    },
    {
      ...shared,
      displayName: 'anywhere',
      testMatch: ['<rootDir>/test/anywhere/**/*.test.ts'],
      setupFilesAfterEnv: ['<rootDir>/test/guest-setup.mjs'],
    },
    {
      ...shared,
      displayName: 'nodes',
      testMatch: ['<rootDir>/test/nodes/**/*.test.ts'],
      setupFilesAfterEnv: ['<rootDir>/test/guest-setup.mjs'],
    },
    {
      ...shared,
      displayName: 'docker',
      testMatch: ['<rootDir>/test/docker/**/*.test.ts'],
      setupFilesAfterEnv: ['<rootDir>/test/guest-setup.mjs'],
    },
    {
      ...shared,
      displayName: 'vagrant',
      testMatch: ['<rootDir>/test/vagrant/**/*.test.ts'],
      setupFilesAfterEnv: ['<rootDir>/test/guest-setup.mjs'],
    },
    {
      ...shared,
      displayName: 'clock',
      testMatch: ['<rootDir>/test/clock/**/*.test.ts'],
      setupFilesAfterEnv: ['<rootDir>/test/guest-setup.mjs'],
    },
  ],
};
