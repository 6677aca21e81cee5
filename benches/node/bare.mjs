// No rival at all: what a Node process that only waits costs by itself.
export async function sender() {
  return { async pump() {} }
}

export async function receiver() {}
