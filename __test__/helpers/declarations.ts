/**
 * The declarations of the public API and of the binding, read by the compiler's own checker, so that the tests of
 * __test__/boundary cannot forget a new method, option or event. It says what there is: each class with its members,
 * each parameter with the kinds of values that it takes, and every function that a user passes in. It makes no calls.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  API,
  type Checker,
  isIntersectionType,
  isUnionType,
  SignatureKind,
  type Symbol as Declared,
  SymbolFlags,
  type Type,
  TypeFlags,
} from 'typescript/unstable/sync'

/** A parameter of a method, or an option. */
export interface Parameter {
  readonly name: string
  /** What `typeof` says of the values that it takes; `null`, `array`, `bytes` and `any` besides. */
  readonly kinds: readonly string[]
  /** The options in it, if it is an object of options. */
  readonly options: readonly Parameter[]
}

/** A member of a class that a user can reach. */
export interface Member {
  readonly name: string
  readonly kind: 'method' | 'property'
  /** One list for each overload. */
  readonly overloads: readonly (readonly Parameter[])[]
}

export interface Declarations {
  /** The classes and interfaces that have methods, by name. */
  readonly classes: ReadonlyMap<string, readonly Member[]>
  /** The names of the events by the class that emits them. */
  readonly events: ReadonlyMap<string, readonly string[]>
  /** Paths of the functions that a user passes in, such as `Bus.serve(options.codec.encode)`. */
  readonly callbacks: readonly string[]
  /** Paths of the AbortSignals that a user passes in. */
  readonly signals: readonly string[]
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const { Call: CALL } = SignatureKind
const OF_THE_LIBRARY = new Set(['Message', 'Batch', 'Connection', 'DeadLetter'])
/** A path of options is at most so long: options are no recursive types. */
const DEEPEST = 5

/** What src/index.ts exports. */
export function publicApi(): Declarations {
  return declarationsOf('src/index.ts')
}

/** What the generated declarations of the binding export. */
export function bindingApi(): Declarations {
  return declarationsOf('native/binding.d.cts')
}

function declarationsOf(path: string): Declarations {
  const api = new API({ cwd: ROOT })
  try {
    const [project] = api.updateSnapshot({ openProjects: [join(ROOT, 'tsconfig.build.json')] }).getProjects()
    const file = project?.program.getSourceFile(join(ROOT, path))
    const module = file && project?.checker.getSymbolAtLocation(file)
    if (project === undefined || module === undefined) throw new Error(`${path} is not in the project`)
    return new Reader(project.checker).read(module)
  } finally {
    api.close()
  }
}

class Reader {
  readonly #checker: Checker
  readonly #callbacks = new Set<string>()
  readonly #signals = new Set<string>()

  constructor(checker: Checker) {
    this.#checker = checker
  }

  read(module: Declared): Declarations {
    const checker = this.#checker
    const classes = new Map<string, Member[]>()
    const events = new Map<string, string[]>()
    for (const exported of checker.getExportsOfModule(module)) {
      const symbol = (exported.flags & SymbolFlags.Alias) === 0 ? exported : checker.getAliasedSymbol(exported)
      if ((symbol.flags & (SymbolFlags.Class | SymbolFlags.Interface)) === 0) continue
      const { name } = symbol
      const type = checker.getDeclaredTypeOfSymbol(symbol)
      const properties = checker.getPropertiesOfType(type).filter((one) => this.#isOurs(one))
      if (name.endsWith('Events')) {
        events.set(
          name.slice(0, -'Events'.length),
          properties.map((one) => one.name),
        )
        continue
      }
      const statics = [...symbol.getExports().values()].filter((one) => this.#isOurs(one))
      const members = [...statics, ...properties].map((one) => this.#member(name, one))
      if (members.some(({ kind }) => kind === 'method')) classes.set(name, members)
    }
    return { classes, events, callbacks: [...this.#callbacks].sort(), signals: [...this.#signals].sort() }
  }

  /** Neither private nor `@internal`, and not inherited from Node. */
  #isOurs(symbol: Declared): boolean {
    if (symbol.name.startsWith('__#') || symbol.name === 'prototype') return false
    if (symbol.getJsDocTags(this.#checker).some(({ name }) => name === 'internal')) return false
    return !['EventEmitter', 'Error', 'Emitter'].includes(symbol.getParent()?.name ?? '')
  }

  #member(owner: string, symbol: Declared): Member {
    const name = plain(symbol.name)
    const type = this.#checker.getTypeOfSymbol(symbol)
    const signatures = type === undefined ? [] : this.#checker.getSignaturesOfType(type, CALL)
    const overloads = signatures.map((signature) =>
      signature.getParameters().map((parameter) => this.#parameter(`${owner}.${name}`, [], parameter)),
    )
    return { name, kind: signatures.length > 0 ? 'method' : 'property', overloads }
  }

  #parameter(method: string, above: readonly string[], symbol: Declared): Parameter {
    const path = [...above, plain(symbol.name)]
    const type = this.#checker.getTypeOfSymbol(symbol)
    const parts = type === undefined ? [] : this.#parts(type)
    const kinds = new Set<string>()
    const options: Parameter[] = []
    for (const part of parts) {
      const kind = this.#kind(part)
      kinds.add(kind)
      if (kind === 'function') this.#callbacks.add(`${method}(${path.join('.')})`)
      if (kind === 'signal') this.#signals.add(`${method}(${path.join('.')})`)
      if (kind !== 'object' || path.length > DEEPEST || this.#isOfNode(part)) continue
      for (const property of this.#checker.getPropertiesOfType(part))
        if (this.#isOurs(property)) options.push(this.#parameter(method, path, property))
    }
    return { name: plain(symbol.name), kinds: [...kinds].sort(), options: merged(options) }
  }

  /** A server of `node:net` is given as it is; its methods are no options. */
  #isOfNode(type: Type): boolean {
    return this.#checker.getPropertiesOfType(type).some(({ name }) => name === 'getConnections')
  }

  /** The members of a union. */
  #parts(type: Type): readonly Type[] {
    return isUnionType(type) ? type.getTypes().flatMap((part) => this.#parts(part)) : [type]
  }

  #kind(type: Type): string {
    const { flags } = type
    if ((flags & (TypeFlags.String | TypeFlags.StringLiteral | TypeFlags.TemplateLiteral)) !== 0) return 'string'
    if ((flags & (TypeFlags.Number | TypeFlags.NumberLiteral)) !== 0) return 'number'
    if ((flags & (TypeFlags.Boolean | TypeFlags.BooleanLiteral)) !== 0) return 'boolean'
    if ((flags & (TypeFlags.Undefined | TypeFlags.Void)) !== 0) return 'undefined'
    if ((flags & TypeFlags.Null) !== 0) return 'null'
    if (isIntersectionType(type)) {
      // Of a literal and an object, such as `CodecOption<T> & 'json'`, only the literal is left.
      const kinds = type.getTypes().map((part) => this.#kind(part))
      return kinds.find((kind) => kind !== 'object') ?? 'object'
    }
    if ((flags & TypeFlags.Object) === 0) return 'any'
    if (this.#checker.isArrayType(type) || this.#checker.isTupleType(type)) return 'array'
    const name = type.getSymbol()?.name
    if (name === 'Uint8Array') return 'bytes'
    if (name === 'AbortSignal') return 'signal'
    if (this.#checker.getSignaturesOfType(type, CALL).length > 0) return 'function'
    // What the library itself makes, such as a message for `ack`.
    if (name !== undefined && OF_THE_LIBRARY.has(name)) return name
    return 'object'
  }
}

/** A symbol's name, as users write it. */
function plain(name: string): string {
  const known = /^__@(\w+)@\d+$/.exec(name)
  return known === null ? name : `[Symbol.${known[1]}]`
}

/** The same option of several members of a union is one option. */
function merged(options: readonly Parameter[]): Parameter[] {
  const byName = new Map<string, Parameter>()
  for (const one of options) {
    const other = byName.get(one.name)
    const kinds = [...new Set([...(other?.kinds ?? []), ...one.kinds])].sort()
    byName.set(one.name, { ...one, kinds, options: merged([...(other?.options ?? []), ...one.options]) })
  }
  return [...byName.values()]
}
