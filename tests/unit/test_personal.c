/* Personal facts: as they are, hashed, or left out; and the secret that hashes them. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "emitter/personal.h"
#include "schema/limits.h"

static char directory[256], error[256];

static int
make_directory(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)state;
	snprintf(directory, sizeof directory, "%s/test_personal.XXXXXX", base ? base : "/tmp");
	return mkdtemp(directory) ? 0 : -1;
}

static const char *
secret_file(void)
{
	static char path[300];

	snprintf(path, sizeof path, "%s/personal", directory);
	return path;
}

static int
remove_directory(void **state)
{
	(void)state;
	(void)unlink(secret_file());
	return rmdir(directory);
}

/* What stands in a report when "bob" is hashed: its words are told apart by what sshd knows, not by their place. */
static const struct {
	const char *text, *kept[3], *hidden;
} matched[] = {
	{"User bob: passwordauthentication yes", {"User hmac:", ": passwordauthentication yes"}, "bob"},
	{"Address 10.0.0.0/8: maxauthtries 9", {"Address hmac:", ": maxauthtries 9"}, "10.0"},
	{"user bob,carol host h.example: maxauthtries 8", {"user hmac:", " host hmac:", ": maxauthtries 8"}, "example"},
	{"User two words: permitrootlogin yes", {"User hmac:", " hmac:", ": permitrootlogin yes"}, "words"},
	{"Group user: dave: maxauthtries 7", {"Group hmac:", ": maxauthtries 7"}, "dave"},
	{"erin", {"hmac:"}, "erin"},
};

static struct facts *
some_facts(void)
{
	struct facts *facts = facts_new();

	assert_non_null(facts);
	facts_set_text(facts, FACT_DEVICE_HOSTNAME, "gateway");
	facts_begin_list(facts, FACT_CONFIGURATION_ADMINISTRATORS);
	facts_add_text(facts, FACT_CONFIGURATION_ADMINISTRATORS, "alice sudo");
	facts_add_text(facts, FACT_CONFIGURATION_ADMINISTRATORS, "bob sudo without password");
	facts_begin_list(facts, FACT_ACCESS_USABLE);
	facts_add_text(facts, FACT_ACCESS_USABLE, "alice");
	facts_begin_list(facts, FACT_ACCESS_EMPTY_PASSWORD);
	facts_begin_list(facts, FACT_ACCESS_WEAK_PASSWORD_HASH);
	facts_add_text(facts, FACT_ACCESS_WEAK_PASSWORD_HASH, "carol of sales");
	facts_begin_list(facts, FACT_ACCESS_SSH_MATCH);
	for (size_t i = 0; i < sizeof matched / sizeof matched[0]; i++)
		facts_add_text(facts, FACT_ACCESS_SSH_MATCH, matched[i].text);
	facts_unknown(facts, FACT_ACCESS_SECOND_ROOT, "etc/passwd may not be read");
	facts_set_text(facts, FACT_OS_KERNEL, "6.1");
	return facts;
}

static bool
lists(const struct facts *facts, enum fact fact, const char *wanted)
{
	struct slice text;
	size_t at = 0;

	while (facts_next_text(facts, fact, &at, &text))
		if (memmem(text.at, text.len, wanted, strlen(wanted)))
			return true;
	return false;
}

static struct facts *
told_by(const char *way, const char *state_dir)
{
	struct facts *facts = some_facts(), *told = facts_new();
	struct personal personal;

	assert_int_equal(personal_open(&personal, way, state_dir, error), 0);
	assert_int_equal(personal_apply(&personal, facts, told), 0);
	facts_free(facts);
	return told;
}

static void
kept_as_they_are(void **state)
{
	struct facts *told = told_by("keep", directory);

	(void)state;
	assert_string_equal(facts_text(told, FACT_DEVICE_HOSTNAME), "gateway");
	assert_true(lists(told, FACT_CONFIGURATION_ADMINISTRATORS, "alice sudo"));
	assert_string_equal(facts_why(told, FACT_ACCESS_SECOND_ROOT), "etc/passwd may not be read");
	assert_int_equal(access(secret_file(), F_OK), -1); /* nothing needs one */
	facts_free(told);
}

static void
hashed_they_keep_their_number_and_what_is_not_a_name(void **state)
{
	struct facts *told = told_by("hash", directory), *again;
	struct slice one;
	size_t at = 0;
	struct stat st;

	(void)state;
	assert_int_equal(facts_count(told, FACT_CONFIGURATION_ADMINISTRATORS), 2);
	assert_false(lists(told, FACT_CONFIGURATION_ADMINISTRATORS, "alice") ||
		     lists(told, FACT_CONFIGURATION_ADMINISTRATORS, "bob"));
	assert_true(lists(told, FACT_CONFIGURATION_ADMINISTRATORS, " sudo without password"));
	assert_int_equal(facts_count(told, FACT_ACCESS_EMPTY_PASSWORD), 0);
	assert_true(facts_has(told, FACT_ACCESS_EMPTY_PASSWORD));
	assert_memory_equal(facts_text(told, FACT_DEVICE_HOSTNAME), "hmac:", 5);
	assert_int_equal(strlen(facts_text(told, FACT_DEVICE_HOSTNAME)), PERSONAL_HASH - 1);
	assert_string_equal(facts_text(told, FACT_OS_KERNEL), "6.1");
	/* The same name is the same everywhere, also after a restart, so that the digest of the state stays. */
	assert_true(facts_next_text(told, FACT_ACCESS_USABLE, &at, &one));
	again = told_by("hash", directory);
	assert_string_equal(facts_text(told, FACT_DEVICE_HOSTNAME), facts_text(again, FACT_DEVICE_HOSTNAME));
	char name[PERSONAL_HASH];
	snprintf(name, sizeof name, "%.*s", (int)one.len, (const char *)one.at);
	assert_true(lists(again, FACT_CONFIGURATION_ADMINISTRATORS, name));
	assert_int_equal(stat(secret_file(), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	facts_free(told);
	facts_free(again);
}

static void
what_a_match_block_loosens_is_told_of_nobody(void **state)
{
	struct facts *told = told_by("hash", directory);

	(void)state;
	assert_int_equal(facts_count(told, FACT_ACCESS_SSH_MATCH), sizeof matched / sizeof matched[0]);
	for (size_t i = 0; i < sizeof matched / sizeof matched[0]; i++) {
		for (size_t k = 0; k < 3 && matched[i].kept[k]; k++)
			assert_true(lists(told, FACT_ACCESS_SSH_MATCH, matched[i].kept[k]));
		assert_false(lists(told, FACT_ACCESS_SSH_MATCH, matched[i].hidden));
	}
	assert_false(lists(told, FACT_ACCESS_SSH_MATCH, "bob") || lists(told, FACT_ACCESS_SSH_MATCH, "carol"));
	assert_false(lists(told, FACT_ACCESS_WEAK_PASSWORD_HASH, "sales"));
	facts_free(told);
	told = told_by("omit", directory);
	assert_string_equal(facts_why(told, FACT_ACCESS_SSH_MATCH), "personal: left out, 6 of them");
	facts_free(told);
}

static void
what_has_no_room_leaves_no_name(void **state)
{
	struct facts *facts = facts_new(), *told = facts_new();
	struct personal personal;
	char text[LIMIT_SENT_TEXT + 1] = "user ";

	(void)state;
	for (size_t i = 0; i < 60; i++)
		strcat(text, "b ");
	strcat(text, "bob: maxauthtries 9");
	facts_begin_list(facts, FACT_ACCESS_SSH_MATCH);
	facts_add_text(facts, FACT_ACCESS_SSH_MATCH, text);
	assert_int_equal(personal_open(&personal, "hash", NULL, error), 0);
	assert_int_equal(personal_apply(&personal, facts, told), 0);
	assert_true(lists(told, FACT_ACCESS_SSH_MATCH, "user hmac:") &&
		    lists(told, FACT_ACCESS_SSH_MATCH, ": maxauthtries 9"));
	assert_false(lists(told, FACT_ACCESS_SSH_MATCH, "bob") || lists(told, FACT_ACCESS_SSH_MATCH, " b "));
	facts_free(facts);
	facts_free(told);
}

static void
another_device_hashes_otherwise(void **state)
{
	struct facts *one = told_by("hash", NULL), *other = told_by("hash", NULL);

	(void)state;
	assert_string_not_equal(facts_text(one, FACT_DEVICE_HOSTNAME), facts_text(other, FACT_DEVICE_HOSTNAME));
	facts_free(one);
	facts_free(other);
}

static void
left_out_they_say_how_many(void **state)
{
	struct facts *told = told_by("omit", directory);

	(void)state;
	assert_false(facts_has(told, FACT_DEVICE_HOSTNAME));
	assert_string_equal(facts_why(told, FACT_DEVICE_HOSTNAME), "personal: left out");
	assert_false(facts_has(told, FACT_CONFIGURATION_ADMINISTRATORS));
	assert_string_equal(facts_why(told, FACT_CONFIGURATION_ADMINISTRATORS), "personal: left out, 2 of them");
	assert_string_equal(facts_why(told, FACT_ACCESS_EMPTY_PASSWORD), "personal: left out, 0 of them");
	assert_string_equal(facts_why(told, FACT_ACCESS_SECOND_ROOT), "etc/passwd may not be read");
	assert_string_equal(facts_text(told, FACT_OS_KERNEL), "6.1");
	facts_free(told);
}

static void
a_name_of_an_event(void **state)
{
	struct personal keep = {.way = PERSONAL_KEEP}, hashed = {.way = PERSONAL_HASHED},
			omitted = {.way = PERSONAL_OMITTED};
	char hash[PERSONAL_HASH];

	(void)state;
	assert_string_equal(personal_text(&keep, "alice", hash), "alice");
	assert_null(personal_text(&omitted, "alice", hash));
	/* HMAC-SHA256 under 32 zero bytes, as `printf alice | openssl dgst -sha256 -mac HMAC -macopt hexkey:00...` has
	   it. */
	assert_string_equal(personal_text(&hashed, "alice", hash), "hmac:ce3837f76a54a635");
}

static void
a_damaged_secret_is_refused(void **state)
{
	struct personal personal;
	int fd = open(secret_file(), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "short", 5), 5);
	close(fd);
	assert_int_equal(personal_open(&personal, "hash", directory, error), -1);
	assert_non_null(strstr(error, "personal"));
	assert_int_equal(personal_open(&personal, "omit", directory, error), 0);
	assert_int_equal(personal_open(&personal, "hash", secret_file(), error), -1); /* no directory */
	assert_int_equal(unlink(secret_file()), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kept_as_they_are),
		cmocka_unit_test(hashed_they_keep_their_number_and_what_is_not_a_name),
		cmocka_unit_test(what_a_match_block_loosens_is_told_of_nobody),
		cmocka_unit_test(what_has_no_room_leaves_no_name),
		cmocka_unit_test(another_device_hashes_otherwise),
		cmocka_unit_test(left_out_they_say_how_many),
		cmocka_unit_test(a_name_of_an_event),
		cmocka_unit_test(a_damaged_secret_is_refused),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
