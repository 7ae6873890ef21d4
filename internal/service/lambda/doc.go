// Package lambda is AWS Lambda: functions of zip files, run in sandboxes of
// internal/engine.
package lambda
