#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "emitter/accounts.h"
#include "emitter/btmp.h"
#include "emitter/default_password.h"
#include "emitter/lockout.h"
#include "emitter/pam.h"
#include "emitter/probes.h"
#include "emitter/ssh_server.h"

#define ACCOUNTS_MAX 16384
#define KEYED_MAX 256 /* accounts whose keys are looked for */
#define KEY_FILE_MAX (256 * 1024)
#define DAY 86400
#define BTMP "var/log/btmp"
/* Both are whole numbers of records of 384 and of 400 bytes: a quiet device's day, and 10,000 of the smaller ones. */
#define BTMP_SMALL (8 * 9600)
#define BTMP_LARGE (400 * 9600)

struct row {
	struct account account;
	struct slice password; /* the field of shadow, or of passwd */
	bool expired, keyed;
};

struct access {
	struct probe *probe;
	uint8_t *passwd, *shadow; /* copies */
	struct row *rows; /* by name once they are sorted */
	size_t len;
	struct ssh_server *ssh;
	uint64_t keys;
	char shadow_why[256], keys_why[256]; /* empty: known */
};

/* ---- reading ---- */

static uint8_t *
read_copy(struct access *a, const char *path, size_t *len)
{
	struct slice text = source_read(a->probe->source, path, SOURCE_FILE);
	uint8_t *copy = text.at ? malloc(text.len + 1) : NULL;

	if (copy)
		memcpy(copy, text.at, text.len);
	a->probe->no_memory = a->probe->no_memory || (text.at && !copy);
	*len = text.len;
	return copy;
}

static int
compare_names(struct slice a, struct slice b)
{
	int order = memcmp(a.at, b.at, a.len < b.len ? a.len : b.len);

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* Of two accounts of one name the first is the one that counts, as for the C library. */
static int
by_name(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	int order = compare_names(x->account.name, y->account.name);

	return order ? order : (x->account.name.at > y->account.name.at) - (x->account.name.at < y->account.name.at);
}

static int
find_name(const void *key, const void *row)
{
	return compare_names(*(const struct slice *)key, ((const struct row *)row)->account.name);
}

/* -1, and all is unknown. */
static int
read_passwd(struct access *a)
{
	struct slice rest, line;
	struct account account;
	size_t len;

	a->passwd = read_copy(a, "etc/passwd", &len);
	if (!a->passwd)
		return -1;
	for (rest = (struct slice){a->passwd, len}; text_line(&rest, &line);)
		a->len += account_parse(line, &account);
	if (a->len > ACCOUNTS_MAX)
		return -1;
	a->rows = calloc(a->len + 1, sizeof a->rows[0]);
	if (!a->rows) {
		a->probe->no_memory = true;
		return -1;
	}
	a->len = 0;
	for (rest = (struct slice){a->passwd, len}; text_line(&rest, &line);)
		if (account_parse(line, &a->rows[a->len].account)) {
			a->rows[a->len].password = a->rows[a->len].account.password;
			a->len++;
		}
	qsort(a->rows, a->len, sizeof a->rows[0], by_name);
	return 0;
}

static void
take_shadow(struct access *a, const struct shadow *shadow)
{
	struct row *row = bsearch(&shadow->name, a->rows, a->len, sizeof a->rows[0], find_name);
	uint64_t today = (uint64_t)time(NULL) / DAY;

	/* Each name's first entry counts, for each account of that name. */
	while (row && row > a->rows && compare_names(row[-1].account.name, shadow->name) == 0)
		row--;
	for (; row && row < a->rows + a->len && compare_names(row->account.name, shadow->name) == 0; row++) {
		if (!text_is(row->account.password, "x") || row->password.at != row->account.password.at)
			continue;
		row->password = shadow->password;
		row->expired = shadow->expires && shadow->expiry <= today;
		/* The day comes without the file's changing. */
		if (shadow->expires && shadow->expiry > today)
			source_trace_transient(a->probe->source);
	}
}

static bool
is_shadowed(const struct access *a)
{
	for (size_t i = 0; i < a->len; i++)
		if (text_is(a->rows[i].account.password, "x"))
			return true;
	return false;
}

static void
read_shadow(struct access *a)
{
	struct slice rest, line;
	struct shadow shadow;
	size_t len;

	a->shadow = read_copy(a, "etc/shadow", &len);
	if (!a->shadow && (is_shadowed(a) || !source_missing(a->probe->source)))
		snprintf(a->shadow_why, sizeof a->shadow_why, "%s", source_why(a->probe->source));
	rest = (struct slice){a->shadow, a->shadow ? len : 0};
	while (text_line(&rest, &line))
		if (shadow_parse(line, &shadow))
			take_shadow(a, &shadow);
}

/* ---- keys ---- */

/* "%h/.ssh/keys": with what stands for home and name; relative ones are in the home. */
static bool
expand(const char *pattern, size_t len, const struct account *account, char *out, size_t size)
{
	size_t at = 0;
	struct slice home = {account->home.at, account->home.len}, piece;

	if (len > 0 && pattern[0] != '/' && !(pattern[0] == '%' && len > 1 && pattern[1] == 'h')) {
		if (home.len + 1 >= size)
			return false;
		memcpy(out, home.at, home.len);
		at = home.len;
		out[at++] = '/';
	}
	for (size_t i = 0; i < len; i++) {
		char id[24];

		piece = (struct slice){(const uint8_t *)pattern + i, 1};
		if (pattern[i] == '%' && i + 1 < len) {
			i++;
			if (pattern[i] == 'h')
				piece = home;
			else if (pattern[i] == 'u')
				piece = account->name;
			else if (pattern[i] == 'U')
				piece = (struct slice){
					(const uint8_t *)id,
					(size_t)snprintf(id, sizeof id, "%llu", (unsigned long long)account->uid)};
		}
		if (piece.len >= size - at)
			return false;
		memcpy(out + at, piece.at, piece.len);
		at += piece.len;
	}
	out[at] = '\0';
	return at > 0 && strlen(out) == at;
}

/* Why keys are not known, without the path: a home's name is an account's. */
static void
hide_home(struct access *a, const char *path)
{
	const char *why = source_why(a->probe->source);
	size_t len = strlen(path);

	if (strncmp(why, path, len) == 0)
		snprintf(a->keys_why, sizeof a->keys_why, "an account's authorized_keys%s", why + len);
	else
		snprintf(a->keys_why, sizeof a->keys_why, "an account's authorized_keys can't be read");
}

static bool
take_keys(struct access *a, const char *path)
{
	struct slice text = source_read(a->probe->source, path, KEY_FILE_MAX), line;
	uint64_t found = 0;

	if (!text.at) {
		if (!source_missing(a->probe->source) && !a->keys_why[0])
			hide_home(a, path);
		return false;
	}
	while (text_line(&text, &line))
		found += authorised_key(line);
	a->keys += found;
	return found > 0;
}

/* Accounts that share a home share its keys: each is a way in. */
static void
read_keys_of(struct access *a, struct row *row)
{
	const char *files = ".ssh/authorized_keys", *next;
	char path[1024];
	size_t len;

	if (a->ssh->kind == SSH_OPENSSH)
		files = sshd_config_text(&a->ssh->config, SSHD_AUTHORIZED_KEYS_FILE);
	if (strcmp(files, "none") == 0)
		return;
	for (; *files; files = next) {
		len = strcspn(files, " ");
		next = files + len + strspn(files + len, " ");
		if (expand(files, len, &row->account, path, sizeof path) && take_keys(a, path))
			row->keyed = true;
	}
	if (a->ssh->kind == SSH_DROPBEAR && row->account.uid == 0 && take_keys(a, "etc/dropbear/authorized_keys"))
		row->keyed = true;
}

static void
read_keys(struct access *a)
{
	size_t looked = 0;

	if (a->ssh->why[0]) {
		snprintf(a->keys_why, sizeof a->keys_why, "%s", a->ssh->why);
		return;
	}
	if (!ssh_server_takes_keys(a->ssh))
		return;
	if (a->ssh->kind == SSH_OPENSSH &&
	    strcmp(sshd_config_text(&a->ssh->config, SSHD_AUTHORIZED_KEYS_COMMAND), "none") != 0)
		snprintf(a->keys_why, sizeof a->keys_why, "sshd asks a program for keys");
	for (size_t i = 0; i < a->len; i++) {
		if (!shell_lets_in(a->rows[i].account.shell) || a->rows[i].account.home.len == 0)
			continue;
		if (looked++ == KEYED_MAX) {
			snprintf(a->keys_why, sizeof a->keys_why, "more than 256 accounts have a shell");
			return;
		}
		read_keys_of(a, &a->rows[i]);
	}
}

/* ---- facts about accounts ---- */

static void
add_name(struct probe *p, enum fact fact, struct slice name)
{
	char text[LIMIT_SENT_TEXT + 1];

	snprintf(text, sizeof text, "%.*s", name.len < sizeof text ? (int)name.len : (int)sizeof text - 1,
		 (const char *)name.at);
	facts_add_text(p->facts, fact, text);
}

/* Without PAM sshd takes "!" for an account that is locked altogether. */
static bool
key_lets_in(const struct access *a, const struct row *row)
{
	bool locked = row->password.len > 0 && row->password.at[0] == '!';

	return row->keyed &&
	       !(locked && a->ssh->kind == SSH_OPENSSH && !sshd_config_flag(&a->ssh->config, SSHD_USE_PAM));
}

static bool
is_usable(const struct access *a, const struct row *row)
{
	enum password kind = password_kind(row->password);
	bool password = kind == PASSWORD_EMPTY || kind == PASSWORD_WEAK || kind == PASSWORD_SOUND;

	return !row->expired && shell_lets_in(row->account.shell) && (password || key_lets_in(a, row));
}

static bool
is_empty(const struct access *a, const struct row *row)
{
	(void)a;
	return !row->expired && shell_lets_in(row->account.shell) && password_kind(row->password) == PASSWORD_EMPTY;
}

static bool
is_second_root(const struct access *a, const struct row *row)
{
	(void)a;
	return row->account.uid == 0 && !text_is(row->account.name, "root");
}

static bool
is_weak(const struct access *a, const struct row *row)
{
	(void)a;
	return password_kind(row->password) == PASSWORD_WEAK;
}

static void
list(struct access *a, enum fact fact, bool (*holds)(const struct access *, const struct row *), const char *why)
{
	struct probe *p = a->probe;

	if (why[0]) {
		facts_unknown(p->facts, fact, why);
		return;
	}
	facts_begin_list(p->facts, fact);
	for (size_t i = 0; i < a->len; i++)
		if (holds(a, &a->rows[i]))
			add_name(p, fact, a->rows[i].account.name);
}

static void
count_locked(struct access *a)
{
	uint64_t n = 0;

	for (size_t i = 0; i < a->len; i++)
		n += password_kind(a->rows[i].password) == PASSWORD_LOCKED;
	if (a->shadow_why[0])
		facts_unknown(a->probe->facts, FACT_ACCESS_LOCKED, a->shadow_why);
	else
		facts_set_uint(a->probe->facts, FACT_ACCESS_LOCKED, n);
}

/* One pair of the declared passwords; NULL, or why it can't be told. */
static const char *
try_default(struct access *a, struct slice name, struct slice password, bool *same)
{
	struct row *row = bsearch(&name, a->rows, a->len, sizeof a->rows[0], find_name);
	enum password kind = row ? password_kind(row->password) : PASSWORD_NONE;

	*same = row && kind == PASSWORD_EMPTY && password.len == 0;
	if (kind != PASSWORD_WEAK && kind != PASSWORD_SOUND)
		return NULL;
	return default_password_check(&a->probe->default_passwords, password, row->password, same);
}

static void
find_defaults(struct access *a)
{
	const char *path = a->probe->declared ? a->probe->declared->default_passwords : NULL, *why = NULL;
	struct slice rest, line, name, password;
	struct facts *facts = a->probe->facts;
	size_t pairs = 0, len;
	uint8_t *copy;
	bool same;

	if (!path || !path[0] || a->shadow_why[0]) {
		facts_unknown(facts, FACT_ACCESS_DEFAULT_PASSWORD,
			      a->shadow_why[0] ? a->shadow_why : "default_passwords is not set");
		return;
	}
	copy = read_copy(a, path, &len);
	if (!copy)
		why = source_why(a->probe->source);
	facts_begin_list(facts, FACT_ACCESS_DEFAULT_PASSWORD);
	rest = (struct slice){copy, copy ? len : 0};
	while (!why && text_line(&rest, &line)) {
		const uint8_t *colon = line.len && line.at[0] != '#' ? memchr(line.at, ':', line.len) : NULL;

		if (!colon)
			continue;
		if (pairs++ == DEFAULT_PASSWORDS) {
			why = "more than 16 default passwords are declared";
			break;
		}
		name = (struct slice){line.at, (size_t)(colon - line.at)};
		password = (struct slice){colon + 1, line.len - name.len - 1};
		why = try_default(a, name, password, &same);
		if (!why && same)
			add_name(a->probe, FACT_ACCESS_DEFAULT_PASSWORD, name);
	}
	if (why)
		facts_unknown(facts, FACT_ACCESS_DEFAULT_PASSWORD, why);
	free(copy);
}

static void
state_accounts(struct access *a)
{
	const char *why = a->shadow_why[0] ? a->shadow_why : a->keys_why;

	facts_set_uint(a->probe->facts, FACT_ACCESS_ACCOUNTS, a->len);
	list(a, FACT_ACCESS_SECOND_ROOT, is_second_root, "");
	list(a, FACT_ACCESS_EMPTY_PASSWORD, is_empty, a->shadow_why);
	list(a, FACT_ACCESS_WEAK_PASSWORD_HASH, is_weak, a->shadow_why);
	list(a, FACT_ACCESS_USABLE, is_usable, why);
	count_locked(a);
	find_defaults(a);
	if (a->keys_why[0])
		facts_unknown(a->probe->facts, FACT_ACCESS_AUTHORISED_KEYS, a->keys_why);
	else
		facts_set_uint(a->probe->facts, FACT_ACCESS_AUTHORISED_KEYS, a->keys);
}

static void
unknown_accounts(struct access *a, const char *why)
{
	for (unsigned fact = FACT_ACCESS_ACCOUNTS; fact <= FACT_ACCESS_LOCKED; fact++)
		facts_unknown(a->probe->facts, (enum fact)fact, why);
	facts_unknown(a->probe->facts, FACT_ACCESS_AUTHORISED_KEYS, why);
}

/* ---- locking and waiting ---- */

/* Where somebody may try passwords, and the account would be locked last. */
static void
state_lockout(struct access *a)
{
	static const char *const services[] = {"login", "sshd"};
	struct facts *facts = a->probe->facts;
	struct lockout one, all = {.locks = true};
	bool any = false, over_ssh = ssh_server_takes_passwords(a->ssh);

	for (size_t i = 0; i < sizeof services / sizeof services[0]; i++) {
		if (i == 1 && !over_ssh)
			continue;
		if (i == 1 && (a->ssh->kind != SSH_OPENSSH || !sshd_config_flag(&a->ssh->config, SSHD_USE_PAM)))
			memset(&one, 0, sizeof one);
		else if (!lockout_read(a->probe->source, services[i], &one))
			continue;
		if (one.why[0] && !all.why[0])
			strcpy(all.why, one.why);
		all.locks = all.locks && one.locks;
		if (!any || one.tries > all.tries) {
			all.tries = one.tries;
			all.unlock_s = one.unlock_s;
		}
		all.delay_s = !any || one.delay_s < all.delay_s ? one.delay_s : all.delay_s;
		any = true;
	}
	if (!any)
		strcpy(all.why, "no etc/pam.d/login");
	if (a->ssh->why[0])
		strcpy(all.why, a->ssh->why);
	if (all.why[0]) {
		facts_unknown(facts, FACT_ACCESS_LOCKOUT_TRIES, all.why);
		facts_unknown(facts, FACT_ACCESS_LOCKOUT_S, all.why);
		facts_unknown(facts, FACT_ACCESS_DELAY_S, all.why);
		return;
	}
	facts_set_uint(facts, FACT_ACCESS_LOCKOUT_TRIES, all.locks ? all.tries : 0);
	if (all.locks)
		facts_set_uint(facts, FACT_ACCESS_LOCKOUT_S, all.unlock_s);
	else
		facts_unknown(facts, FACT_ACCESS_LOCKOUT_S, "accounts are never locked");
	facts_set_number(facts, FACT_ACCESS_DELAY_S, all.delay_s);
}

static void
state_retries(struct access *a)
{
	struct slice text = source_read(a->probe->source, "etc/login.defs", SOURCE_FILE), value;
	uint64_t number;

	if (!text.at)
		facts_unknown(a->probe->facts, FACT_ACCESS_LOGIN_RETRIES, source_why(a->probe->source));
	else if (!setting_find(text, "LOGIN_RETRIES", &value))
		facts_unknown(a->probe->facts, FACT_ACCESS_LOGIN_RETRIES, "etc/login.defs does not set it");
	else if (!text_number(value, 10, &number))
		facts_unknown(a->probe->facts, FACT_ACCESS_LOGIN_RETRIES, "etc/login.defs: LOGIN_RETRIES is no number");
	else
		facts_set_uint(a->probe->facts, FACT_ACCESS_LOGIN_RETRIES, number);
}

/* ---- SSH ---- */

static const enum fact ssh_facts[] = {FACT_ACCESS_SSH_ROOT,  FACT_ACCESS_SSH_PASSWORD, FACT_ACCESS_SSH_EMPTY_PASSWORD,
				      FACT_ACCESS_SSH_TRIES, FACT_ACCESS_SSH_WEAK,     FACT_ACCESS_SSH_GRACE,
				      FACT_ACCESS_SSH_MATCH};

struct adding {
	struct facts *facts;
	enum fact fact;
};

static void
add_text(void *context, const char *text)
{
	struct adding *adding = context;

	facts_add_text(adding->facts, adding->fact, text);
}

static void
state_openssh(struct facts *facts, const struct sshd_config *c)
{
	struct adding weak = {facts, FACT_ACCESS_SSH_WEAK}, match = {facts, FACT_ACCESS_SSH_MATCH};

	facts_set_text(facts, FACT_ACCESS_SSH_ROOT, sshd_config_text(c, SSHD_PERMIT_ROOT_LOGIN));
	facts_set_bool(facts, FACT_ACCESS_SSH_PASSWORD, sshd_takes_passwords(c));
	facts_set_bool(facts, FACT_ACCESS_SSH_EMPTY_PASSWORD,
		       sshd_takes_passwords(c) && sshd_config_flag(c, SSHD_EMPTY_PASSWORDS));
	facts_set_uint(facts, FACT_ACCESS_SSH_TRIES, sshd_config_number(c, SSHD_MAX_AUTH_TRIES));
	facts_set_uint(facts, FACT_ACCESS_SSH_GRACE, sshd_config_number(c, SSHD_LOGIN_GRACE_TIME));
	facts_begin_list(facts, FACT_ACCESS_SSH_WEAK);
	sshd_weak(c, add_text, &weak);
	facts_begin_list(facts, FACT_ACCESS_SSH_MATCH);
	sshd_loosened(c, add_text, &match);
	if (c->matched_more)
		facts_unknown(facts, FACT_ACCESS_SSH_MATCH, "more than 32 settings stand in Match blocks");
}

static void
state_dropbear(struct facts *facts, const struct dropbear *d)
{
	const char *root = d->no_password || d->no_root_password ? "prohibit-password" : "yes";

	facts_set_text(facts, FACT_ACCESS_SSH_ROOT, d->no_root ? "no" : root);
	facts_set_bool(facts, FACT_ACCESS_SSH_PASSWORD, !d->no_password);
	facts_set_bool(facts, FACT_ACCESS_SSH_EMPTY_PASSWORD, !d->no_password && d->empty_password);
	facts_set_uint(facts, FACT_ACCESS_SSH_TRIES, d->tries);
	facts_unknown(facts, FACT_ACCESS_SSH_WEAK, "what dropbear takes is compiled in");
	facts_unknown(facts, FACT_ACCESS_SSH_GRACE, "how long dropbear waits is compiled in");
	facts_begin_list(facts, FACT_ACCESS_SSH_MATCH);
}

static void
state_ssh(struct access *a)
{
	struct facts *facts = a->probe->facts;
	const char *why = a->ssh->kind == SSH_NONE ? "no SSH server" : a->ssh->why;

	if (a->ssh->kind == SSH_NONE && !source_exists(a->probe->source, "usr/sbin"))
		facts_unknown(facts, FACT_ACCESS_SSH, source_why(a->probe->source));
	else
		facts_set_bool(facts, FACT_ACCESS_SSH, a->ssh->kind != SSH_NONE);
	for (size_t i = 0; i < sizeof ssh_facts / sizeof ssh_facts[0] && why[0]; i++)
		facts_unknown(facts, ssh_facts[i], why);
	if (why[0])
		return;
	if (a->ssh->kind == SSH_OPENSSH)
		state_openssh(facts, &a->ssh->config);
	else
		state_dropbear(facts, &a->ssh->dropbear);
}

void
probe_access(struct probe *p)
{
	struct access a = {.probe = p, .ssh = malloc(sizeof *a.ssh)};

	if (!a.ssh) {
		p->no_memory = true;
		return;
	}
	ssh_server_read(p->source, a.ssh);
	if (read_passwd(&a) == 0) {
		read_shadow(&a);
		read_keys(&a);
		state_accounts(&a);
	} else {
		unknown_accounts(&a, a.len > ACCOUNTS_MAX ? "more than 16384 accounts" : source_why(p->source));
	}
	state_ssh(&a);
	state_lockout(&a);
	state_retries(&a);
	free(a.ssh);
	free(a.rows);
	free(a.passwd);
	free(a.shadow);
}

/* ---- failed log-ins ---- */

/* 0; -1 when it can't be read. `older`: it goes back beyond the day. */
static int
count_file(struct probe *p, const char *path, uint64_t now, uint64_t *n, bool *older)
{
	static const size_t steps[] = {BTMP_SMALL, BTMP_LARGE};
	struct slice text;
	uint64_t skipped;
	size_t size;

	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		text = source_read_tail(p->source, path, steps[i], &skipped);
		if (!text.at)
			return -1;
		*older = false;
		*n = 0;
		if (skipped + text.len == 0)
			return 0;
		size = btmp_record_size(skipped + text.len, text);
		if (size == 0)
			return -2;
		*n = btmp_count(text, size, now - DAY, now, older);
		if (*older || skipped == 0)
			return 0;
	}
	*older = true;
	return 0;
}

void
probe_logins(struct probe *p)
{
	uint64_t now = (uint64_t)time(NULL), n = 0, more = 0;
	bool older;
	int result;

	source_trace_transient(p->source);
	result = count_file(p, BTMP, now, &n, &older);
	if (result == -2)
		facts_unknown(p->facts, FACT_ACCESS_FAILED_LOGINS, BTMP " is no file of log-ins");
	else if (result < 0)
		facts_unknown(p->facts, FACT_ACCESS_FAILED_LOGINS, source_why(p->source));
	if (result < 0)
		return;
	/* The day may have begun before the file was rotated. */
	if (!older && count_file(p, BTMP ".1", now, &more, &older) < 0)
		more = 0;
	facts_set_uint(p->facts, FACT_ACCESS_FAILED_LOGINS, n + more);
}
