// Ends this process with the one that started it, however that ends: nothing of the demo outlives the demo.

export function endWithParent(): void {
  process.stdin.resume().once('close', () => process.exit(0))
}
