// Every subject by its name.
import type { Subject, SubjectName } from '../subject.ts'
import { direct } from './direct.ts'
import { envoyL4, envoyL7 } from './envoy.ts'
import { haproxy } from './haproxy.ts'
import { nginx } from './nginx.ts'
import { posternHttp, posternL4 } from './postern.ts'

export const ALL: Readonly<Record<SubjectName, Subject>> = {
  direct,
  'postern-l4': posternL4,
  'postern-http': posternHttp,
  'envoy-l4': envoyL4,
  'envoy-l7': envoyL7,
  haproxy,
  nginx,
}
