// Copies what features.mjs needs, as tools for deployments find it, to the folder `traced`.
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { nodeFileTrace } from '@vercel/nft'

const { fileList } = await nodeFileTrace(['features.mjs'], { base: import.meta.dirname })
for (const file of fileList) cpSync(file, join('traced', file), { verbatimSymlinks: true })
