import { TestEnvironment } from 'jest-environment-node';

/** Node's environment; of an error with details, it prints them, too: jest alone shows only message and stack. */
export default class extends TestEnvironment {
  handleTestEvent(event) {
    if (event.name !== 'test_fn_failure' && event.name !== 'hook_failure') return;
    const { error } = event;
    if (!Array.isArray(error?.detail) || typeof error.stack !== 'string') return;
    error.stack = error.stack.replace(error.message, () => [error.message, ...error.detail].join('\n'));
  }
}
