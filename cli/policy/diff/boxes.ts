// Points of a grid gathered into boxes: those that differ in one coordinate alone become one.

/** One place on each axis. */
export type Point = readonly number[]
/** Some places on each axis; every combination of them is meant. */
export type Box = readonly (readonly number[])[]

/** No point is lost, none is added, and none is in two boxes. */
export function boxesOf(points: readonly Point[], axes: number): readonly Box[] {
  let boxes: readonly Box[] = points.map(point => point.map(place => [place]))
  // What matters most to a reader, who comes first, is what boxes differ in for longest.
  for (let axis = axes - 1; axis >= 0; axis -= 1) boxes = merged(boxes, axis)
  return boxes
}

function merged(boxes: readonly Box[], axis: number): readonly Box[] {
  const alike = new Map<string, Box[]>()
  for (const box of boxes) {
    const key = box.map((places, index) => (index === axis ? '' : places.join())).join(';')
    alike.getOrInsertComputed(key, () => []).push(box)
  }
  return [...alike.values()].map(group =>
    (group[0] ?? []).map((places, index) =>
      index === axis ? group.flatMap(box => box[index] ?? []).sort((a, b) => a - b) : places,
    ),
  )
}
