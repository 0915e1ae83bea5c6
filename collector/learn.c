#include "collector/learn.h"

#include <stdlib.h>
#include <string.h>

static struct docket *
find_docket(struct judge *j, int64_t device_id)
{
	size_t low = 0, high = j->dockets_n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (j->dockets[middle].device->device_id < device_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < j->dockets_n && j->dockets[low].device->device_id == device_id ? &j->dockets[low] : NULL;
}

static int
take_epoch(struct judge *j, const PGresult *res, int from, int to)
{
	struct docket *d = find_docket(j, result_int(res, from, 0));
	struct slice head = result_bytes(res, from, 6);
	struct ledger l = {.started = true};
	int rc = 0;

	l.epoch = (uint64_t)result_int(res, from, 1);
	l.hi = (uint64_t)result_int(res, from, 2);
	l.has_head = head.len == DIGEST_SIZE;
	if (l.has_head)
		memcpy(l.head, head.at, DIGEST_SIZE);
	if (d == NULL || (d->current != NULL && d->current->ledger.epoch == l.epoch))
		return 0;
	l.missing = calloc((size_t)(to - from), sizeof *l.missing);
	if (l.missing == NULL)
		return -1;
	for (int i = from; i < to && !result_null(res, i, 4); i++)
		l.missing[l.missing_len++] =
			(struct seq_range){(uint64_t)result_int(res, i, 4), (uint64_t)result_int(res, i, 5) - 1};
	rc = judge_add_epoch(j, d, &l, result_bool(res, from, 3));
	ledger_free(&l);
	return rc;
}

static int
take_epochs(struct judge *j, const PGresult *res)
{
	int end = PQntuples(res);

	for (int from = 0, to; from < end; from = to) {
		to = from + 1;
		while (to < end && result_int(res, to, 0) == result_int(res, from, 0) &&
		       result_int(res, to, 1) == result_int(res, from, 1))
			to++;
		if (take_epoch(j, res, from, to) < 0)
			return -1;
	}
	return 0;
}

static void
take_vouchers(struct judge *j, const PGresult *res)
{
	for (int i = 0; i < PQntuples(res); i++) {
		struct docket *d = find_docket(j, result_int(res, i, 0));

		if (d == NULL)
			continue;
		d->vouched_until = result_null(res, i, 1) ? INT64_MAX : result_time_us(res, i, 1) / 1000000;
		d->reprovision = result_bool(res, i, 2);
		d->unvouched = result_int(res, i, 3);
	}
}

static void
take_pending(struct judge *j, const PGresult *res, int64_t pending_max)
{
	for (int i = 0; i < PQntuples(res); i++) {
		struct docket *d = find_docket(j, result_int(res, i, 0));

		if (d != NULL)
			d->allowance = pending_max - result_int(res, i, 1);
	}
}

static enum outcome
learn_epochs(struct transaction *t, struct judge *j)
{
	PGresult *epochs, *vouchers;
	enum outcome outcome = AGAIN;

	for (size_t i = 0; i < j->dockets_n; i++) {
		struct docket *d = &j->dockets[i];

		if (!d->other_epochs)
			continue;
		row_int(transaction_question(t, READ_VOUCHERS), d->device->device_id);
		for (size_t k = 0; k < d->n; k++) {
			struct rows *r = transaction_question(t, READ_EPOCHS);

			row_int(r, d->device->device_id);
			row_int(r, (int64_t)d->messages[k]->report.epoch);
		}
	}
	if (!transaction_asks(t, READ_VOUCHERS))
		return DONE;
	epochs = transaction_ask(t, READ_EPOCHS);
	vouchers = transaction_ask(t, READ_VOUCHERS);
	if (epochs != NULL && vouchers != NULL && take_epochs(j, epochs) == 0) {
		take_vouchers(j, vouchers);
		outcome = DONE;
	}
	PQclear(epochs);
	PQclear(vouchers);
	return outcome;
}

static enum outcome
learn_pending(struct transaction *t, struct judge *j, int64_t pending_max)
{
	PGresult *res;

	for (size_t i = 0; i < j->dockets_n; i++)
		if (j->dockets[i].device->lifecycle == LIFECYCLE_PENDING)
			row_int(transaction_question(t, READ_PENDING), j->dockets[i].device->device_id);
	if (!transaction_asks(t, READ_PENDING))
		return DONE;
	res = transaction_ask(t, READ_PENDING);
	if (res == NULL)
		return AGAIN;
	take_pending(j, res, pending_max);
	PQclear(res);
	return DONE;
}

static bool
has_state(const struct message *m)
{
	return m->reason == REASON_OK && m->device != NULL && m->report.state.at != NULL;
}

static enum outcome
learn_inventories(struct transaction *t, struct message **messages, size_t n)
{
	PGresult *res;

	for (size_t i = 0; i < n; i++) {
		struct rows *r;

		if (!has_state(messages[i]))
			continue;
		r = transaction_question(t, READ_INVENTORIES);
		row_int(r, (int64_t)i);
		row_int(r, messages[i]->device->tenant_id);
		row_bytes(r, messages[i]->report.inventory_digest, DIGEST_SIZE);
		messages[i]->inventory_stored = messages[i]->report.inventory.at != NULL;
		messages[i]->inventory_found = false;
	}
	if (!transaction_asks(t, READ_INVENTORIES))
		return DONE;
	res = transaction_ask(t, READ_INVENTORIES);
	if (res == NULL)
		return AGAIN;
	for (int i = 0; i < PQntuples(res); i++) {
		size_t at = (size_t)result_int(res, i, 0);

		messages[at]->inventory_found = true;
		messages[at]->inventory_stored = true;
	}
	PQclear(res);
	return DONE;
}

enum outcome
learn(struct transaction *t, struct judge *j, struct message **messages, size_t n, int64_t pending_max)
{
	enum outcome outcome;

	if ((outcome = learn_epochs(t, j)) != DONE || (outcome = learn_pending(t, j, pending_max)) != DONE)
		return outcome;
	return learn_inventories(t, messages, n);
}

static bool
same_signed(const PGresult *res, int row, const struct message *m)
{
	uint8_t tbs[DIGEST_SIZE];
	struct cose_sign1 cose;

	if (result_bool(res, row, 1))
		return true;
	if (cose_decode(result_bytes(res, row, 2), &cose) != REASON_OK)
		return false;
	cose_tbs_digest(&cose, tbs);
	return memcmp(tbs, m->tbs, DIGEST_SIZE) == 0;
}

/* A report says more than what was declared of it, and the same one more than another. */
static enum taken
taken_by(const PGresult *res, int row, const struct message *m)
{
	if (result_null(res, row, 1))
		return result_bool(res, row, 3) ? TAKEN_SKIPPED : TAKEN_OVERWRITTEN;
	return same_signed(res, row, m) ? TAKEN_SAME : TAKEN_OTHER;
}

enum outcome
learn_taken(struct transaction *t, struct judge *j)
{
	static const int weight[] = {
		[TAKEN_GONE] = 0, [TAKEN_SKIPPED] = 1, [TAKEN_OVERWRITTEN] = 1, [TAKEN_OTHER] = 2, [TAKEN_SAME] = 3};
	enum taken *found;
	PGresult *res;

	if (j->asked_n == 0)
		return DONE;
	for (size_t i = 0; i < j->asked_n; i++) {
		const struct message *m = j->asked[i];
		struct rows *r = transaction_question(t, READ_TAKEN);

		row_int(r, (int64_t)i);
		row_int(r, m->device->device_id);
		row_int(r, (int64_t)m->report.epoch);
		row_int(r, (int64_t)m->report.seq);
		row_bytes(r, m->sha256, DIGEST_SIZE);
	}
	found = calloc(j->asked_n, sizeof *found);
	res = found == NULL ? NULL : transaction_ask(t, READ_TAKEN);
	if (res == NULL) {
		free(found);
		return AGAIN;
	}
	for (int i = 0; i < PQntuples(res); i++) {
		size_t at = (size_t)result_int(res, i, 0);
		enum taken taken = taken_by(res, i, j->asked[at]);

		if (weight[taken] > weight[found[at]])
			found[at] = taken;
	}
	for (size_t i = 0; i < j->asked_n; i++)
		judge_settle(j, j->asked[i], found[i]);
	PQclear(res);
	free(found);
	return DONE;
}
