/*
 * All SQL of ingest in one place: what a batch asks before its transaction, and the few set-based statements that write it.
 */
#ifndef FLEETSTATE_COLLECTOR_STORE_SQL_H
#define FLEETSTATE_COLLECTOR_STORE_SQL_H

#define COLUMNS_MAX 12
#define REFUSAL_WINDOW "interval '10 minutes'" /* between two events about the same device and reason */

/* Columns are the letters of their arrays' types: 4 int4, 8 int8, b bytea, t text, z timestamptz, o boolean, j jsonb. */
struct store_statement {
	const char *name, *columns, *sql;
};

/* The statements that write, in the order in which they run. A statement without rows does not run. */
enum write {
	ENROL_DEVICE,
	ENROL_HOT,
	ENROL_KEY,
	MOVE_HOT,
	LOCK_PERSONAL,
	LOCK_VERDICT,
	ADD_QUIET,
	ADD_FULL,
	ADD_EPOCH,
	SPEND_WORD,
	DELETE_GAP,
	ADD_GAP,
	ADD_DROP,
	ADD_COMPONENT,
	ADD_INVENTORY,
	ADD_MEMBER,
	ADD_HISTORY,
	MOVE_STATE,
	SET_DEVICE,
	ANSWER_CHALLENGE,
	MARK_DEVICE,
	JUDGE_STATE,
	ADD_EVENT,
	COUNT_REFUSAL,
	ADD_REFUSAL,
	WRITES
};

/* What only the database knows. */
enum read { READ_EPOCHS, READ_VOUCHERS, READ_PENDING, READ_INVENTORIES, READ_TAKEN, READ_FATE, READS };

extern const struct store_statement store_writes[WRITES], store_reads[READS];

#endif
