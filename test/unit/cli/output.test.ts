import t from 'tap'
import { createOutput } from '../../../cli/output.ts'

function printed() {
  let [out, err] = ['', '']
  const sink = {
    out: (text: string) => {
      out += text
    },
    err: (text: string) => {
      err += text
    },
  }
  return { output: createOutput(sink, false), text: () => out + err }
}

t.test('what a pod has written of itself cannot move the cursor, nor look like a line of ours', async t => {
  const { output, text } = printed()
  output.line('shop/web \u001b[2J\u202e')
  output.note('one\ntwo\r')
  output.table(['POD', 'REASON'], [['shop/web', 'has only\nIDLE \u001b]0;x\u0007']])
  t.same(text().split('\n'), [
    'shop/web \\u{1b}[2J\\u{202e}',
    'POD       REASON',
    'shop/web  has only\\u{a}IDLE \\u{1b}]0;x\\u{7}',
    'one\\u{a}two\\u{d}',
    '',
  ])
})

t.test('what is ordinary stays as it is', async t => {
  const { output, text } = printed()
  output.line('Grüße, 日本')
  t.equal(text(), 'Grüße, 日本\n')
})
