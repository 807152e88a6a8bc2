// Moves the test process itself into a network namespace, so that an API server and an injector that it starts are on
// the network of the pods. setns(2) moves the calling thread; sockets and child processes are made by that one.

import { dlopen } from 'node:ffi'
import { closeSync, openSync } from 'node:fs'
import type { Namespace } from './netns.ts'

const CLONE_NEWNET = 0x40000000

/** Disposing moves back; before the namespace is removed, which ends every process inside. */
export function enterNamespace({ name }: Namespace): Disposable {
  const { functions } = dlopen(null, { setns: { arguments: ['int32', 'int32'], return: 'int32' } })
  const enter = (descriptor: number) => {
    if (functions.setns(descriptor, CLONE_NEWNET) !== 0) throw new Error(`setns into ${name} failed`)
  }
  const home = openSync('/proc/thread-self/ns/net', 'r')
  const there = openSync(`/run/netns/${name}`, 'r')
  enter(there)
  closeSync(there)
  return {
    [Symbol.dispose]: () => {
      enter(home)
      closeSync(home)
    },
  }
}
