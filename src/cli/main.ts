#!/usr/bin/env node
/** The program `ringbell`. Everything is in program.ts; this file only passes the arguments of the process. */
import { runProgram } from './program.js'

void runProgram(process.argv)
