/* Any passwd, shadow, group or authorized_keys, and any password's field. */
#include <stdlib.h>
#include <string.h>

#include "emitter/accounts.h"
#include "emitter/conffiles.h"
#include "emitter/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_inside(struct slice part, const uint8_t *data, size_t size)
{
	if (part.len > 0 && (part.at < data || part.at + part.len > data + size))
		abort();
}

static void
check_conffiles(struct slice text)
{
	struct conffiles *c = calloc(1, sizeof *c);

	conffiles_feed(c, text);
	conffiles_end(c);
	for (size_t i = 0; i < c->len; i++)
		if (c->paths[c->at[i].path] != '/' || (c->at[i].digest_len != 16 && c->at[i].digest_len != 32))
			abort();
	free(c);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = {data, size}, line, name;
	struct account account;
	struct shadow shadow;
	struct group group;
	size_t members = 0;

	while (text_line(&text, &line)) {
		if (account_parse(line, &account)) {
			if (account.name.len == 0)
				abort();
			check_inside(account.shell, data, size);
			check_inside(account.home, data, size);
			(void)shell_lets_in(account.shell);
			(void)password_kind(account.password);
			(void)password_is_cheap(account.password);
		}
		if (shadow_parse(line, &shadow)) {
			check_inside(shadow.password, data, size);
			if (password_kind(shadow.password) == PASSWORD_EMPTY && shadow.password.len > 0)
				abort();
			(void)password_is_cheap(shadow.password);
		}
		if (group_parse(line, &group))
			while (group_member(&group.members, &name)) {
				check_inside(name, data, size);
				if (name.len == 0 || ++members > size)
					abort();
			}
		(void)authorised_key(line);
		(void)password_kind(line);
		(void)password_is_cheap(line);
	}
	check_conffiles((struct slice){data, size});
	return 0;
}
