// Swaps generations of certificate files in a volume without end, to be killed in the midst of it.
import { certVolume } from '../../proxy/cert-files/volume.ts'
import { generation } from './cert-files.ts'

const volume = certVolume(process.argv[2] ?? '')
for (let number = Number(process.argv[3]); ; number++) {
  await volume.swap(generation(number), new Date())
  if (number === Number(process.argv[3])) process.stdout.write('begun\n')
}
