/**
 * How long a test waits for something before it fails as hanging. Even a slow machine does not need this long.
 * ava.config.mjs waits longer, so that the test itself fails, with its own message.
 */
export const PATIENCE_MS = 5 * 60_000
