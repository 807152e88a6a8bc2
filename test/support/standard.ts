// A sentence of a standard as a test: its name is the section and the sentence, in the standard's words, so that what is
// held and by which cases can be read, and compared with docs/spiffe.md, without knowing the code.
import t from 'tap'

/** Each case is named by what it shows: `true` where it is as the sentence wants it. */
export type Cases = Readonly<Record<string, () => boolean | Promise<boolean>>>

export function rule(section: string, sentence: string, cases: Cases): void {
  t.test(`${section}: ${sentence}`, async t => {
    for (const [name, holds] of Object.entries(cases)) t.equal(await holds(), true, name)
  })
}
