#include <stdio.h>
#include <string.h>

#include "emitter/forwarding.h"
#include "emitter/glob.h"
#include "emitter/probes.h"

#define FILES_MAX 64 /* of one service */

/* A log service: the files that say where it sends, and what it is called. */
static const struct {
	const char *name, *pattern;
	void (*parse)(struct slice, struct forwarding *);
} services[] = {
	{"rsyslog", "etc/rsyslog.conf", forwarding_rsyslog},
	{"rsyslog", "etc/rsyslog.d/*.conf", forwarding_rsyslog},
	{"syslog-ng", "etc/syslog-ng/syslog-ng.conf", forwarding_syslog_ng},
	{"syslog-ng", "etc/syslog-ng/conf.d/*.conf", forwarding_syslog_ng},
	{"journal-upload", "etc/systemd/journal-upload.conf", forwarding_journal_upload},
	{"journal-upload", "etc/systemd/journal-upload.conf.d/*.conf", forwarding_journal_upload},
	{"openwrt", "etc/config/system", forwarding_openwrt},
};
#define SERVICES (sizeof services / sizeof *services)

struct search {
	struct probe *probe;
	size_t service;
	struct forwarding found;
	bool failed;
	char why[256];
};

static bool
take_file(void *context, const char *path)
{
	struct search *s = context;
	struct slice text = source_read(s->probe->source, path, SOURCE_FILE);

	if (text.at) {
		services[s->service].parse(text, &s->found);
	} else if (!source_missing(s->probe->source)) {
		s->failed = true;
		snprintf(s->why, sizeof s->why, "%s", source_why(s->probe->source));
	}
	return true;
}

static void
tell(struct probe *p, const char *name, const struct forwarding *found)
{
	char text[64];

	if (found->tls) {
		snprintf(text, sizeof text, "%s tls", name);
		facts_add_text(p->facts, FACT_EMITTER_LOG_FORWARDING, text);
	}
	if (found->plain) {
		snprintf(text, sizeof text, "%s plain", name);
		facts_add_text(p->facts, FACT_EMITTER_LOG_FORWARDING, text);
	}
}

/* rsyslog's drop-ins go by the default that its own file sets, so that the files of a service are one search. */
void
probe_forwarding(struct probe *p)
{
	struct search s = {.probe = p};

	facts_begin_list(p->facts, FACT_EMITTER_LOG_FORWARDING);
	for (s.service = 0; s.service < SERVICES; s.service++) {
		bool last = s.service + 1 == SERVICES ||
			    strcmp(services[s.service].name, services[s.service + 1].name) != 0;

		if (source_glob(p->source, services[s.service].pattern, FILES_MAX, take_file, &s) != 0) {
			s.failed = true;
			snprintf(s.why, sizeof s.why, "%s", source_why(p->source));
		}
		if (last) {
			tell(p, services[s.service].name, &s.found);
			memset(&s.found, 0, sizeof s.found);
		}
	}
	if (s.failed)
		facts_unknown(p->facts, FACT_EMITTER_LOG_FORWARDING, s.why);
}
