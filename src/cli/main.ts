#!/usr/bin/env node
/** The program `ringbell`. Everything is in program.ts; here it only meets the process. */
import { runProgram } from './program.js'

void runProgram(process.argv)
