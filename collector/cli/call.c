#include "collector/cli/call.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collector/cli/cli.h"
#include "collector/cli/output.h"

#define CONNECT_S 10L
#define STALL_S 120L /* longer than any answer is waited for */
#define PROGRESS_S 1 /* before the first, and between */

/* What is told so far, of all requests. */
static struct {
	long long items, bytes;
	time_t last;
	bool shown;
} progress;

static void
show_progress(void)
{
	time_t now = time(NULL);

	if (!isatty(STDERR_FILENO))
		return;
	if (progress.last == 0)
		progress.last = now;
	if (now - progress.last < PROGRESS_S)
		return;
	progress.last = now;
	progress.shown = true;
	fputc('\r', stderr);
	/* What is written as it comes is not looked into. */
	if (progress.items > 0)
		fprintf(stderr, "%lld items, ", progress.items);
	fprintf(stderr, "%.1f MiB ", (double)progress.bytes / (1 << 20));
	fflush(stderr);
}

void
call_progress(long long items)
{
	progress.items += items;
	show_progress();
}

void
call_progress_end(void)
{
	if (progress.shown)
		fputs("\r\033[K", stderr);
	progress.shown = false;
}

/* An answer on its way. */
struct receiving {
	CURL *curl;
	const struct asked *asked;
	struct told *told;
	bool failed;
};

static bool
is_good(long status)
{
	return status >= 200 && status < 300;
}

static bool
is_written(const struct receiving *r)
{
	bool json = strcmp(r->told->type, "application/json") == 0;

	return is_good(r->told->status) && r->asked->out != NULL && (r->asked->raw || !json);
}

static size_t
on_bytes(char *at, size_t size, size_t n, void *context)
{
	struct receiving *r = context;
	struct told *told = r->told;
	size_t len = size * n;
	const char *type = NULL;
	char *more;

	if (told->status == 0) {
		curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &told->status);
		curl_easy_getinfo(r->curl, CURLINFO_CONTENT_TYPE, &type);
		snprintf(told->type, sizeof told->type, "%.*s", type == NULL ? 0 : (int)strcspn(type, "; "), type);
	}
	progress.bytes += (long long)len;
	show_progress();
	if (is_written(r)) {
		if (!told->written && r->asked->begin != NULL)
			r->asked->begin();
		told->written = true;
		r->failed = fwrite(at, 1, len, r->asked->out) != len || fflush(r->asked->out) != 0;
		return r->failed ? 0 : len;
	}
	more = len > CALL_ANSWER_MAX - told->len ? NULL : realloc(told->body, told->len + len + 1);
	if (more == NULL)
		return 0;
	told->body = more;
	memcpy(told->body + told->len, at, len);
	told->len += len;
	told->body[told->len] = '\0';
	return len;
}

static struct curl_slist *
add(struct curl_slist *list, const char *name, const char *value)
{
	struct curl_slist *longer;
	char *line;

	if (asprintf(&line, "%s: %s", name, value) < 0)
		cli_die(CLI_NO, "out of memory");
	longer = curl_slist_append(list, line);
	free(line);
	if (longer == NULL)
		cli_die(CLI_NO, "out of memory");
	return longer;
}

static struct curl_slist *
make_headers(const struct server *server, const struct asked *asked)
{
	struct curl_slist *list = add(NULL, "Accept", "*/*");

	for (const struct curl_slist *h = asked->headers; h != NULL; h = h->next)
		list = curl_slist_append(list, h->data);
	if (asked->type != NULL)
		list = add(list, "Content-Type", asked->type);
	if (server->token != NULL) {
		char *bearer;

		if (asprintf(&bearer, "Bearer %s", server->token) < 0)
			cli_die(CLI_NO, "out of memory");
		list = add(list, "Authorization", bearer);
		free(bearer);
	}
	return list;
}

/* A redirect would carry the token elsewhere: none is followed. */
static void
set_up(CURL *curl, const struct server *server, const struct asked *asked, char *error)
{
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, asked->method);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "fleetstate/" FLEETSTATE_VERSION);
	curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STALL_S);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
	if (asked->body != NULL) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, asked->body);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)asked->body_len);
	}
	if (server->ca != NULL)
		curl_easy_setopt(curl, CURLOPT_CAINFO, server->ca);
	if (server->certificate != NULL)
		curl_easy_setopt(curl, CURLOPT_SSLCERT, server->certificate);
	if (server->key != NULL)
		curl_easy_setopt(curl, CURLOPT_SSLKEY, server->key);
}

int
call_ask(const struct server *server, const struct asked *asked, struct told *told, char *why)
{
	static CURL *curl; /* its connection is used again */
	char error[CURL_ERROR_SIZE] = "", *url;
	struct curl_slist *headers = make_headers(server, asked);
	struct receiving r = {.asked = asked, .told = told};
	struct curl_header *position;
	curl_off_t later = 0;
	CURLcode code;

	*told = (struct told){.status = 0};
	if (curl == NULL)
		curl = curl_easy_init();
	else
		curl_easy_reset(curl);
	if (curl == NULL || asprintf(&url, "%s%s", server->url, asked->target) < 0)
		cli_die(CLI_NO, "out of memory");
	r.curl = curl;
	set_up(curl, server, asked, error);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &r);
	code = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &told->status);
	curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &later);
	told->retry_after_s = (long)later;
	if (curl_easy_header(curl, "Fleetstate-Position", 0, CURLH_HEADER, -1, &position) == CURLHE_OK)
		snprintf(told->position, sizeof told->position, "%s", position->value);
	curl_slist_free_all(headers);
	free(url);
	if (code == CURLE_OK)
		return 0;
	snprintf(why, CALL_WHY_SIZE, "%s",
		 r.failed           ? OUTPUT_FULL
		 : error[0] != '\0' ? error
				    : curl_easy_strerror(code));
	free(told->body);
	*told = (struct told){.written = told->written};
	return -1;
}

void
told_free(struct told *told)
{
	free(told->body);
	*told = (struct told){.status = 0};
}

char *
call_quote(const char *text)
{
	char *quoted = curl_easy_escape(NULL, text, 0), *copy;

	copy = quoted == NULL ? NULL : strdup(quoted);
	curl_free(quoted);
	if (copy == NULL)
		cli_die(CLI_NO, "out of memory");
	return copy;
}
