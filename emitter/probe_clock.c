#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/timex.h>

#include "emitter/probes.h"

/* Processes that set the clock, by the name the kernel gives them: 15 characters. */
static const struct {
	const char *process, *source;
} services[] = {
	{"chronyd", "chrony"},      {"systemd-timesyn", "systemd-timesyncd"},
	{"ntpd", "ntpd"},           {"ntpd-rs", "ntpd-rs"},
	{"openntpd", "openntpd"},   {"ptp4l", "ptp4l"},
	{"phc2sys", "phc2sys"},     {"sntp", "sntp"},
	{"ntpclient", "ntpclient"},
};
#define SERVICES (sizeof services / sizeof services[0])

struct search {
	struct source *source;
	size_t found; /* the first row that a process fits */
	bool init; /* process 1 was seen: processes of others are not hidden */
};

static bool
look_at(void *context, int directory, const char *name)
{
	struct search *search = context;
	char path[64];
	struct slice comm;

	(void)directory;
	if (name[0] < '0' || name[0] > '9')
		return true;
	snprintf(path, sizeof path, "proc/%.20s/comm", name);
	comm = source_read(search->source, path, SOURCE_ATTRIBUTE);
	if (!comm.at)
		return true;
	comm = text_trim(comm);
	if (strcmp(name, "1") == 0)
		search->init = true;
	for (size_t i = 0; i < search->found; i++)
		if (text_is(comm, services[i].process))
			search->found = i;
	return true;
}

static void
service(struct probe *p)
{
	struct search search = {p->source, SERVICES, false};

	if (source_list(p->source, "proc", SOURCE_NAMES, look_at, &search) < 0)
		facts_unknown(p->facts, FACT_CLOCK_SOURCE, source_why(p->source));
	else if (search.found < SERVICES)
		facts_set_text(p->facts, FACT_CLOCK_SOURCE, services[search.found].source);
	else if (search.init)
		facts_set_text(p->facts, FACT_CLOCK_SOURCE, "none");
	else
		facts_unknown(p->facts, FACT_CLOCK_SOURCE, "other processes are hidden");
}

void
probe_clock(struct probe *p)
{
	struct timex now = {.modes = 0};

	service(p);
	if (adjtimex(&now) < 0) {
		for (unsigned fact = FACT_CLOCK_SYNCHRONISED; fact <= FACT_CLOCK_MAX_ERROR; fact++)
			if (fact != FACT_CLOCK_SOURCE)
				facts_unknown(p->facts, (enum fact)fact, "adjtimex is refused");
		return;
	}
	facts_set_bool(p->facts, FACT_CLOCK_SYNCHRONISED, !(now.status & STA_UNSYNC));
	facts_set_number(p->facts, FACT_CLOCK_OFFSET, (double)now.offset / (now.status & STA_NANO ? 1e9 : 1e6));
	facts_set_number(p->facts, FACT_CLOCK_MAX_ERROR, (double)now.maxerror / 1e6);
}
