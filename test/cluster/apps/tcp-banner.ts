// A server-first protocol, like SMTP or MySQL: sends its banner before the client says anything, then echoes.
import { createServer } from 'node:net'

const port = Number(process.env.PORT ?? 2525)

createServer({ allowHalfOpen: true }, socket => {
  socket.on('error', () => {})
  socket.write(`220 ${process.env.HOSTNAME} ready\r\n`)
  socket.pipe(socket)
}).listen(port, '0.0.0.0', () => console.log(JSON.stringify({ listening: port })))
process.on('SIGTERM', () => process.exit(0))
