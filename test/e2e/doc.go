// Package e2e holds the end-to-end tests: they start the built binary as a user
// would and drive it with real clients. SKERRY_BINARY names the binary; without
// it the tests build one.
package e2e
