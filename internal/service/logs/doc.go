// Package logs is Amazon CloudWatch Logs: log groups and streams, the events in
// them, searching and following them, and what is done with them as they arrive.
//
// # Rows
//
//	logs/groups         account, region, name        group: id, class, retention, tags, protection
//	logs/streams        group's id, name             stream: id, first and last event, bytes
//	logs/events         group's id, time, seq, id    chunk: up to ten seconds of one PutLogEvents call
//	  by stream         stream's id, time, seq
//	logs/subscriptions  group's id, name             subscription filter
//	logs/policies       account, region, group, name resource policy (group is empty for the account's)
//	logs/garbage        group's id, stream's id      events of what was deleted, for the sweep
//	logs/metered        ""                           until when storage is metered
//
// Events are rows in batches, as they came, not one by one: one call of
// PutLogEvents costs two rows however many events it brings. A chunk never spans
// more than ten seconds, so that a reader of time t has seen all once it is at
// the chunk that begins at t, and need not start earlier than ten seconds before.
//
// Events are ordered by their time, then by their arrival; an event's id says its
// place in this order, as AWS's does (its time is the id's upper part).
//
// A group or stream that is deleted is gone at once; the sweep (a loop) deletes
// its events, and those past their group's retention, which readers no longer
// see from that moment on.
//
// # What is left out
//
// Logs Insights (StartQuery and what belongs to it), metric filters (there are no
// metrics yet), subscription filters to anything but Lambda functions, export and
// import tasks, data protection, transformers, anomaly detectors, deliveries,
// field indexes, integrations, KMS keys, the class DELIVERY and links between
// accounts. These answer that they are not built, or refuse the value.
//
// # What differs from AWS
//
// storedBytes and lastEventTimestamp are always up to date; AWS's lag. Throttling
// quotas are not applied. Events past retention are unreadable at once, where AWS
// takes up to 72 hours. GetLogEvents and FilterLogEvents are refused in the class
// INFREQUENT_ACCESS as on AWS, where only Logs Insights reads those.
package logs
