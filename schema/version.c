#include "schema/version.h"

#include <string.h>

const char *
version_order_name(enum version_order order)
{
	static const char *const names[VERSION_ORDERS] = {"debian", "rpm", "apk", "semver"};

	return names[order];
}

static int
sign(size_t a, size_t b)
{
	return (a > b) - (a < b);
}

static bool
is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The first character, -1 at the end. */
static int
peek(struct slice text)
{
	return text.len > 0 ? text.at[0] : -1;
}

static void
skip(struct slice *text, size_t n)
{
	if (n == 0)
		return;
	text->at += n;
	text->len -= n;
}

/* Takes what is of the class off the front. */
static struct slice
take_run(struct slice *text, bool (*is)(int))
{
	struct slice run = {text->at, 0};

	while (run.len < text->len && is(text->at[run.len]))
		run.len++;
	skip(text, run.len);
	return run;
}

static int
compare_text(struct slice a, struct slice b)
{
	size_t shorter = a.len < b.len ? a.len : b.len;
	int order = shorter > 0 ? memcmp(a.at, b.at, shorter) : 0;

	return order ? order : sign(a.len, b.len);
}

static int
compare_digits(struct slice a, struct slice b)
{
	while (peek(a) == '0')
		skip(&a, 1);
	while (peek(b) == '0')
		skip(&b, 1);
	return a.len != b.len ? sign(a.len, b.len) : compare_text(a, b);
}

/* Takes what stands before the first mark, and the mark. false: there is none. */
static bool
cut_first(struct slice *text, char mark, struct slice *before)
{
	const uint8_t *at = text->len ? memchr(text->at, mark, text->len) : NULL;

	if (!at)
		return false;
	*before = (struct slice){text->at, (size_t)(at - text->at)};
	skip(text, before->len + 1);
	return true;
}

/* Cuts what stands behind the last mark off, and the mark. false: there is none, `after` is absent. */
static bool
cut_last(struct slice *text, char mark, struct slice *after)
{
	const uint8_t *at = text->len ? memrchr(text->at, mark, text->len) : NULL;

	*after = (struct slice){NULL, 0};
	if (!at)
		return false;
	*after = (struct slice){at + 1, (size_t)(text->at + text->len - at - 1)};
	text->len = (size_t)(at - text->at);
	return true;
}

/* ---- Debian ---- */

/* "~" sorts before the end, the end before letters, letters before all else. */
static int
debian_weight(int c)
{
	if (c < 0 || is_digit(c))
		return 0;
	if (c == '~')
		return -1;
	return is_letter(c) ? c : c + 256;
}

static int
compare_debian_part(struct slice a, struct slice b)
{
	while (a.len > 0 || b.len > 0) {
		int order;

		while ((a.len > 0 && !is_digit(a.at[0])) || (b.len > 0 && !is_digit(b.at[0]))) {
			order = debian_weight(peek(a)) - debian_weight(peek(b));
			if (order)
				return order;
			skip(&a, 1);
			skip(&b, 1);
		}
		order = compare_digits(take_run(&a, is_digit), take_run(&b, is_digit));
		if (order)
			return order;
	}
	return 0;
}

static int
compare_debian(struct slice a, struct slice b)
{
	struct slice epoch_a = {NULL, 0}, epoch_b = {NULL, 0}, revision_a, revision_b;
	int order;

	(void)cut_first(&a, ':', &epoch_a);
	(void)cut_first(&b, ':', &epoch_b);
	(void)cut_last(&a, '-', &revision_a);
	(void)cut_last(&b, '-', &revision_b);
	order = compare_debian_part(epoch_a, epoch_b);
	if (!order)
		order = compare_debian_part(a, b);
	return order ? order : compare_debian_part(revision_a, revision_b);
}

/* ---- rpm ---- */

static bool
is_rpm_filler(int c)
{
	return !is_digit(c) && !is_letter(c) && c != '~' && c != '^';
}

/* "~" sorts before the end of the text, "^" behind it and before all else. 0 when neither begins with one, or both with the same. */
static int
compare_rpm_marks(struct slice a, struct slice b)
{
	int x = peek(a), y = peek(b);

	if (x == y)
		return 0;
	if (x == '~' || y == '~')
		return x == '~' ? -1 : 1;
	if (x == '^')
		return y < 0 ? 1 : -1;
	if (y == '^')
		return x < 0 ? -1 : 1;
	return 0;
}

static int
compare_rpm_part(struct slice a, struct slice b)
{
	for (;;) {
		int order;
		bool number;

		(void)take_run(&a, is_rpm_filler);
		(void)take_run(&b, is_rpm_filler);
		order = compare_rpm_marks(a, b);
		if (order)
			return order;
		if (peek(a) == '~' || peek(a) == '^') {
			skip(&a, 1);
			skip(&b, 1);
			continue;
		}
		if (a.len == 0 || b.len == 0)
			return sign(a.len, b.len);
		number = is_digit(a.at[0]);
		if (number != is_digit(b.at[0]))
			return number ? 1 : -1;
		if (number)
			order = compare_digits(take_run(&a, is_digit), take_run(&b, is_digit));
		else
			order = compare_text(take_run(&a, is_letter), take_run(&b, is_letter));
		if (order)
			return order;
	}
}

/* An epoch is all digits, "0" if absent. */
static void
cut_rpm_epoch(struct slice *text, struct slice *epoch)
{
	struct slice rest = *text;

	*epoch = take_run(&rest, is_digit);
	if (peek(rest) == ':') {
		skip(&rest, 1);
		*text = rest;
	} else {
		epoch->len = 0;
	}
}

static int
compare_rpm(struct slice a, struct slice b)
{
	struct slice epoch_a, epoch_b, release_a, release_b;
	bool has_a, has_b;
	int order;

	cut_rpm_epoch(&a, &epoch_a);
	cut_rpm_epoch(&b, &epoch_b);
	has_a = cut_last(&a, '-', &release_a);
	has_b = cut_last(&b, '-', &release_b);
	order = compare_digits(epoch_a, epoch_b);
	if (!order)
		order = compare_rpm_part(a, b);
	if (order || (!has_a && !has_b))
		return order;
	return has_a == has_b ? compare_rpm_part(release_a, release_b) : has_a - has_b;
}

/* ---- apk ---- */

/*
 * number{.number}{letter}{_suffix{number}}{~hash}{-r#}. What the next piece is decides before what it holds: a pre-release suffix sorts before the
 * end, and the end before all others, in this order.
 */
enum apk_piece { APK_PRE, APK_END, APK_INVALID, APK_REVISION, APK_HASH, APK_SUFFIX, APK_LETTER, APK_NUMBER };

static const struct {
	const char *name;
	bool before; /* the release itself */
} apk_suffixes[] = {
	{"alpha", true}, {"beta", true}, {"pre", true}, {"rc", true}, {"cvs", false},
	{"svn", false},  {"git", false}, {"hg", false}, {"p", false},
};
#define APK_SUFFIXES (sizeof apk_suffixes / sizeof apk_suffixes[0])

struct apk_reader {
	struct slice rest;
	bool first;
	enum apk_piece piece;
	struct slice text; /* the number's digits, the letter, the hash */
	size_t suffix;
};

static bool
is_small(int c)
{
	return c >= 'a' && c <= 'z';
}

static bool
is_hex(int c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f');
}

static void
read_apk_suffix(struct apk_reader *r)
{
	struct slice name;

	skip(&r->rest, 1);
	name = take_run(&r->rest, is_small);
	r->piece = APK_INVALID;
	for (size_t i = 0; i < APK_SUFFIXES; i++) {
		if (name.len != strlen(apk_suffixes[i].name) || memcmp(name.at, apk_suffixes[i].name, name.len) != 0)
			continue;
		r->suffix = i;
		r->piece = apk_suffixes[i].before ? APK_PRE : APK_SUFFIX;
		r->text = take_run(&r->rest, is_digit);
	}
}

static void
read_apk_number(struct apk_reader *r, enum apk_piece piece)
{
	r->text = take_run(&r->rest, is_digit);
	r->piece = r->text.len > 0 ? piece : APK_INVALID;
}

/* Pieces come in this order and none twice but numbers and suffixes; what does not fit is invalid and holds all that is left. */
static void
read_apk(struct apk_reader *r)
{
	enum apk_piece last = r->first ? APK_NUMBER : r->piece;
	struct slice whole = r->rest;
	bool was_suffix = last == APK_PRE || last == APK_SUFFIX, was_number = last == APK_NUMBER;
	int c = peek(r->rest);

	r->text = (struct slice){NULL, 0};
	if (c < 0) {
		r->piece = APK_END;
	} else if (r->first) {
		read_apk_number(r, APK_NUMBER);
	} else if (c == '.' && was_number) {
		skip(&r->rest, 1);
		read_apk_number(r, APK_NUMBER);
	} else if (is_small(c) && was_number) {
		r->piece = APK_LETTER;
		r->text = (struct slice){r->rest.at, 1};
		skip(&r->rest, 1);
	} else if (c == '_' && (was_number || was_suffix || last == APK_LETTER)) {
		read_apk_suffix(r);
	} else if (c == '~' && (last > APK_HASH || last == APK_PRE)) {
		skip(&r->rest, 1);
		r->text = take_run(&r->rest, is_hex);
		r->piece = r->text.len > 0 ? APK_HASH : APK_INVALID;
	} else if (c == '-' && r->rest.len > 1 && r->rest.at[1] == 'r' && last != APK_REVISION) {
		skip(&r->rest, 2);
		read_apk_number(r, APK_REVISION);
	} else {
		r->piece = APK_INVALID;
	}
	if (r->piece == APK_INVALID) {
		r->text = whole;
		r->rest.len = 0;
	}
	r->first = false;
}

/* Behind the first number, digits that begin with a zero are read as behind a decimal point. */
static int
compare_apk_numbers(struct slice a, struct slice b, bool first)
{
	if (!first && a.len > 0 && b.len > 0 && (a.at[0] == '0' || b.at[0] == '0'))
		return compare_text(a, b);
	return compare_digits(a, b);
}

static int
compare_apk(struct slice a, struct slice b)
{
	struct apk_reader x = {.rest = a, .first = true}, y = {.rest = b, .first = true};
	int order;

	for (bool first = true;; first = false) {
		read_apk(&x);
		read_apk(&y);
		if (x.piece != y.piece)
			return (int)x.piece - (int)y.piece;
		switch (x.piece) {
		case APK_END:
			return 0;
		case APK_INVALID:
			return compare_text(x.text, y.text);
		case APK_NUMBER:
			order = compare_apk_numbers(x.text, y.text, first);
			break;
		case APK_PRE:
		case APK_SUFFIX:
			order = sign(x.suffix, y.suffix);
			if (!order)
				order = compare_digits(x.text, y.text);
			break;
		case APK_REVISION:
			order = compare_digits(x.text, y.text);
			break;
		default:
			order = compare_text(x.text, y.text);
		}
		if (order)
			return order;
	}
}

/* ---- Semantic Versioning ---- */

static bool
all_digits(struct slice text)
{
	struct slice rest = text;

	return take_run(&rest, is_digit).len > 0 && rest.len == 0;
}

/* Identifiers between dots: numbers before texts (11.4.3), fewer before more (11.4.4). What is missing of major.minor.patch is 0. */
static int
compare_identifiers(struct slice a, struct slice b, bool core)
{
	while (a.len > 0 || b.len > 0) {
		struct slice x = {NULL, 0}, y = {NULL, 0};
		bool ended_a = a.len == 0, ended_b = b.len == 0, number_a, number_b;
		int order;

		if (!core && ended_a != ended_b)
			return ended_a ? -1 : 1;
		if (!cut_first(&a, '.', &x))
			x = a, a.len = 0;
		if (!cut_first(&b, '.', &y))
			y = b, b.len = 0;
		number_a = ended_a || all_digits(x);
		number_b = ended_b || all_digits(y);
		if (number_a != number_b)
			order = number_a ? -1 : 1;
		else
			order = number_a ? compare_digits(x, y) : compare_text(x, y);
		if (order)
			return order;
	}
	return 0;
}

static int
compare_semver(struct slice a, struct slice b)
{
	struct slice core_a = {NULL, 0}, core_b = {NULL, 0};
	bool pre_a, pre_b;
	int order;

	if (peek(a) == 'v')
		skip(&a, 1);
	if (peek(b) == 'v')
		skip(&b, 1);
	/* What stands behind "+" has no rank (10). */
	if (cut_first(&a, '+', &core_a))
		a = core_a;
	if (cut_first(&b, '+', &core_b))
		b = core_b;
	pre_a = cut_first(&a, '-', &core_a);
	pre_b = cut_first(&b, '-', &core_b);
	order = compare_identifiers(pre_a ? core_a : a, pre_b ? core_b : b, true);
	if (order)
		return order;
	if (pre_a != pre_b)
		return pre_a ? -1 : 1;
	return pre_a ? compare_identifiers(a, b, false) : 0;
}

int
version_compare(enum version_order order, struct slice a, struct slice b)
{
	static int (*const compare[VERSION_ORDERS])(struct slice, struct slice) = {compare_debian, compare_rpm,
										   compare_apk, compare_semver};

	return compare[order](a, b);
}
