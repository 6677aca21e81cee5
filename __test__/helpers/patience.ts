/**
 * How long a test waits for what must come, before it is said that it hangs. No slow machine needs as long. ava.config.mjs waits longer,
 * so that the test itself is the one that fails, with what it knows.
 */
export const PATIENCE_MS = 5 * 60_000
