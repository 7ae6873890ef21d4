// Package store keeps all state: typed tables and indexes over an ordered
// key-value database, read and written in serialisable transactions.
//
// A table and its indexes are declared beside the service that owns them:
//
//	var byOwner = store.NewIndex("owner", func(r *bucketRow) []store.Key {
//		return []store.Key{store.K(r.Owner)}
//	})
//	var buckets = store.NewTable("s3/buckets", func(r *bucketRow) store.Key {
//		return store.K(r.Name)
//	}, byOwner)
//
// and used inside DB.View and DB.Update. What a transaction returns without an
// error, and what a View shows, is on disk. Update runs its function again when
// another transaction has changed what it read, so the function has no effects
// outside of the transaction; effects go to Tx.OnCommit.
//
// # What is where
//
//	'r' K(table) key            the row: version (uvarint), then CBOR, or the
//	                            row's own form if it implements Codec
//	'i' K(table, index) ikey key  an index entry: the length of ikey (uvarint)
//	'm' K(table)                the table's row version and indexes, in CBOR
//
// # Versions
//
// A row carries the version of its table. An older row is brought up by the
// table's migration (see Version) when it is read; a newer one, or one with
// fields that the struct does not have, is an error that names the row. When a
// table's version or set of indexes differs from what is on disk, the table is
// rewritten once, before its first use.
package store
