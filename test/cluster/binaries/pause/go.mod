// Builds the pause program: process 1 of each pod's sandbox and of the cluster's own namespaces.
module postern.dev/test/binaries/pause

go 1.26.0
