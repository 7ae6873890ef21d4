// Package identity tests iam and sts together, behind the real gateway and over
// the real store: who may assume what, and what a session may do. Neither service
// may import the other, so that the tests of both stand here.
package identity
