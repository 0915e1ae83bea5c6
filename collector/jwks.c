#include "collector/jwks.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/guard.h"
#include "schema/log.h"

#define TIMEOUT_S 10 /* of a call out */
#define CA_MAX (1024 * 1024)

static const char https[] = "https://";

struct jwks {
	struct jwt_rules rules;
	const char *source;
	int64_t refresh_s, refetch_s;
	struct guard *guard;
	CURLM *multi;
	char *ca; /* PEM; NULL: the system's */
	pthread_t thread;
	pthread_rwlock_t keys_lock;
	struct jwk_set *keys; /* NULL: none yet */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool wanted; /* a token named a key that is not here */
	atomic_bool stop;
	bool running;
	char said[GUARD_WHY_SIZE]; /* what went wrong the last time; empty: nothing */
};

/* Reading. */

/* NULL: `why` says what is wrong with it. At most one byte more than `max` is read; ended by a zero. */
static char *
read_file(const char *name, size_t max, size_t *len, char why[GUARD_WHY_SIZE])
{
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *text = fd < 0 ? NULL : malloc(max + 2);
	ssize_t n = -1;

	*len = 0;
	while (text != NULL && *len <= max && (n = read(fd, text + *len, max + 1 - *len)) > 0)
		*len += (size_t)n;
	if (n < 0) {
		snprintf(why, GUARD_WHY_SIZE, "%s", strerror(errno));
		free(text);
		text = NULL;
	} else {
		text[*len] = '\0';
	}
	if (fd >= 0)
		close(fd);
	return text;
}

/* Until it is over, or we are. */
static CURLcode
run_call(struct jwks *j)
{
	const CURLMsg *message;
	int running = 1, left;

	while (running > 0 && !atomic_load(&j->stop))
		if (curl_multi_perform(j->multi, &running) != CURLM_OK ||
		    (running > 0 && curl_multi_poll(j->multi, NULL, 0, 1000, NULL) != CURLM_OK))
			return CURLE_FAILED_INIT;
	message = curl_multi_info_read(j->multi, &left);
	return message == NULL ? CURLE_ABORTED_BY_CALLBACK : message->data.result;
}

static char *
fetch(struct jwks *j, size_t *len, char why[GUARD_WHY_SIZE])
{
	char *text = malloc(GUARD_ANSWER_MAX);
	struct guard_call call;
	bool good = false;

	if (text == NULL || guard_open(j->guard, &call, j->source) < 0) {
		snprintf(why, GUARD_WHY_SIZE, "%s", text == NULL ? "out of memory" : call.why);
		free(text);
		return NULL;
	}
	call.whole = text;
	snprintf(why, GUARD_WHY_SIZE, "out of memory");
	if (guard_begin(&call, j->multi, j, j->ca) == 0) {
		if (guard_settle(&call, run_call(j)) < 0)
			snprintf(why, GUARD_WHY_SIZE, "%s", call.why);
		else if (call.too_large)
			snprintf(why, GUARD_WHY_SIZE, "the answer is too large");
		else if (call.status != 200) /* a redirect among others */
			snprintf(why, GUARD_WHY_SIZE, "HTTP %ld", call.status);
		else
			good = true;
	}
	*len = call.whole_len;
	guard_close(&call);
	if (good)
		return text;
	free(text);
	return NULL;
}

static void
put(struct jwks *j, struct jwk_set *fresh)
{
	struct jwk_set *old;

	pthread_rwlock_wrlock(&j->keys_lock);
	old = j->keys;
	j->keys = fresh;
	pthread_rwlock_unlock(&j->keys_lock);
	jwk_set_free(old);
	counter_add(COUNTER_JWK_SETS, 1);
	counter_set(COUNTER_JWKS, (int64_t)jwk_set_len(fresh));
}

/* What is not right leaves those before in force. */
static int
load(struct jwks *j)
{
	char why[GUARD_WHY_SIZE] = "", fault[JWT_WHY_SIZE] = "";
	struct jwk_set *fresh = NULL;
	size_t len = 0;
	char *text = j->guard != NULL ? fetch(j, &len, why) : read_file(j->source, JWK_SET_MAX, &len, why);

	if (text != NULL)
		fresh = jwk_set_parse((struct slice){(const uint8_t *)text, len}, fault);
	free(text);
	if (fresh != NULL) {
		if (j->said[0] != '\0')
			log_info("jwt: the keys can be read again");
		j->said[0] = '\0';
		put(j, fresh);
		return 0;
	}
	if (atomic_load(&j->stop))
		return -1;
	counter_add(COUNTER_JWK_FAILURES, 1);
	if (fault[0] != '\0')
		snprintf(why, sizeof why, "%s", fault);
	if (strcmp(why, j->said) != 0)
		log_error("jwt: %s: %s", j->source, why);
	memcpy(j->said, why, sizeof j->said);
	return -1;
}

/* For how long, in seconds: until they are to be read anyway, or sooner when they are wanted or the last try failed. */
static void
rest(struct jwks *j, bool failed)
{
	struct timespec soon, late;

	clock_gettime(CLOCK_MONOTONIC, &soon);
	late = soon;
	soon.tv_sec += j->refetch_s;
	late.tv_sec += failed ? j->refetch_s : j->refresh_s;
	pthread_mutex_lock(&j->lock);
	/* However many tokens name whatever keys. */
	while (!atomic_load(&j->stop) && pthread_cond_timedwait(&j->wake, &j->lock, &soon) == 0)
		;
	while (!atomic_load(&j->stop) && !j->wanted && pthread_cond_timedwait(&j->wake, &j->lock, &late) == 0)
		;
	j->wanted = false;
	pthread_mutex_unlock(&j->lock);
}

static void *
run(void *argument)
{
	struct jwks *j = argument;
	/* A file was read at the start. */
	bool failed = j->guard == NULL ? false : load(j) < 0;

	while (!atomic_load(&j->stop)) {
		rest(j, failed);
		if (!atomic_load(&j->stop))
			failed = load(j) < 0;
	}
	return NULL;
}

/* Settings. */

static bool
fits(const struct jwks *j, const struct settings *s)
{
	const char *roles = jwt_roles_fault(j->rules.roles), *scopes = jwt_scopes_fault(j->rules.scopes);

	if (j->rules.audience == NULL || j->source == NULL || j->rules.roles == NULL)
		log_error("jwt: jwt_issuer needs jwt_audience, jwt_keys and jwt_roles");
	else if (roles != NULL)
		log_error("jwt: jwt_roles: value=viewer, =analyst, =admin or =operator at \"%s\"", roles);
	else if (scopes != NULL)
		log_error("jwt: jwt_scopes: value=scope at \"%s\"", scopes);
	else if (j->rules.scopes != NULL && j->rules.scope_claim == NULL)
		log_error("jwt: jwt_scopes needs jwt_scope_claim");
	else if (strncmp(s->jwt_keys, "http://", 7) == 0)
		log_error("jwt: jwt_keys: keys come by https, or from a file");
	else
		return true;
	return false;
}

static int
open_way(struct jwks *j, const struct settings *s)
{
	char why[GUARD_WHY_SIZE];
	size_t len;

	j->guard = guard_new(s->jwt_networks, false, TIMEOUT_S, why);
	if (j->guard == NULL) {
		log_error("jwt: jwt_networks: %s", why);
		return -1;
	}
	if (!guard_url_ok(j->source, why)) {
		log_error("jwt: jwt_keys: %s", why);
		return -1;
	}
	if (setting_given(s->jwt_ca) != NULL && (j->ca = read_file(s->jwt_ca, CA_MAX, &len, why)) == NULL) {
		log_error("jwt: %s: %s", s->jwt_ca, why);
		return -1;
	}
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -1;
	j->multi = curl_multi_init();
	return j->multi == NULL ? -1 : 0;
}

static struct jwks *
make(const struct settings *s)
{
	struct jwks *j = calloc(1, sizeof *j);
	pthread_rwlockattr_t preference;
	pthread_condattr_t attributes;

	if (j == NULL)
		return NULL;
	j->rules = (struct jwt_rules){
		.issuer = s->jwt_issuer,
		.audience = setting_given(s->jwt_audience),
		.leeway_s = s->jwt_leeway,
		.tenant_claim = setting_given(s->jwt_tenant_claim),
		.tenants = setting_given(s->jwt_tenants),
		.role_claim = setting_given(s->jwt_role_claim),
		.roles = setting_given(s->jwt_roles),
		.scope_claim = setting_given(s->jwt_scope_claim),
		.scopes = setting_given(s->jwt_scopes),
		.name_claim = setting_given(s->jwt_name_claim),
	};
	j->source = setting_given(s->jwt_keys);
	j->refresh_s = s->jwt_refresh;
	j->refetch_s = s->jwt_refetch;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&j->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&j->lock, NULL);
	/* Those who verify are not to keep new keys out. */
	pthread_rwlockattr_init(&preference);
	pthread_rwlockattr_setkind_np(&preference, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&j->keys_lock, &preference);
	pthread_rwlockattr_destroy(&preference);
	return j;
}

struct jwks *
jwks_start(const struct settings *settings)
{
	struct jwks *j = make(settings);

	if (j == NULL || !fits(j, settings))
		goto fail;
	if (strncmp(j->source, https, sizeof https - 1) == 0 ? open_way(j, settings) < 0 : load(j) < 0)
		goto fail;
	j->running = pthread_create(&j->thread, NULL, run, j) == 0;
	if (j->running)
		return j;
fail:
	jwks_stop(j);
	return NULL;
}

void
jwks_stop(struct jwks *j)
{
	if (j == NULL)
		return;
	pthread_mutex_lock(&j->lock);
	atomic_store(&j->stop, true);
	pthread_cond_signal(&j->wake);
	pthread_mutex_unlock(&j->lock);
	if (j->multi != NULL)
		curl_multi_wakeup(j->multi);
	if (j->running)
		pthread_join(j->thread, NULL);
	curl_multi_cleanup(j->multi);
	guard_free(j->guard);
	jwk_set_free(j->keys);
	free(j->ca);
	pthread_rwlock_destroy(&j->keys_lock);
	pthread_cond_destroy(&j->wake);
	pthread_mutex_destroy(&j->lock);
	free(j);
}

const char *
jwks_issuer(const struct jwks *j)
{
	return j->rules.issuer;
}

bool
jwks_verify(struct jwks *j, const char *text, int64_t now, struct jwt *out, enum jwt_refusal *refusal)
{
	bool there;

	pthread_rwlock_rdlock(&j->keys_lock);
	there = j->keys != NULL;
	if (there)
		*refusal = jwt_verify(j->keys, &j->rules, text, now, out);
	pthread_rwlock_unlock(&j->keys_lock);
	if (there && *refusal == JWT_UNKNOWN_KEY) {
		pthread_mutex_lock(&j->lock);
		j->wanted = true;
		pthread_cond_signal(&j->wake);
		pthread_mutex_unlock(&j->lock);
	}
	return there;
}
