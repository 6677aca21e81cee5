// One turn of the event loop: every pump gives one regularly, so that the harness can be heard.
export const turn = () => new Promise((resolve) => setImmediate(resolve))
