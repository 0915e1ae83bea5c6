#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/timex.h>

#include "emitter/probes.h"

#define UNBOUNDED_US                                                                                                   \
	16000000 /* the kernel's bound of the error grows up to this, and is this when nothing ever set the clock */

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

/* Services by the names of what starts them. The last column is that of sysvinit and OpenWrt, behind "S" and two digits. */
static const struct {
	const char *unit, *script, *source;
} enabled[] = {
	{"chrony.service", "chrony", "chrony"},
	{"chronyd.service", "chronyd", "chrony"},
	{"systemd-timesyncd.service", NULL, "systemd-timesyncd"},
	{"dbus-org.freedesktop.timesync1.service", NULL, "systemd-timesyncd"},
	{"ntpsec.service", "ntpsec", "ntpd"},
	{"ntp.service", "ntp", "ntpd"},
	{"ntpd.service", "ntpd", "ntpd"},
	{"ntpd-rs.service", NULL, "ntpd-rs"},
	{"openntpd.service", "openntpd", "openntpd"},
	{NULL, "sysntpd", "ntpd"},
};
static const char *const starts[] = {"etc/systemd/system/multi-user.target.wants",
				     "etc/systemd/system/sysinit.target.wants",
				     "etc/systemd/system",
				     "etc/runlevels/default",
				     "etc/rc2.d",
				     "etc/rc.d"};

struct start {
	const char *source;
	bool any; /* a directory of things to start was there */
};

static bool
take_start(void *context, int directory, const char *name)
{
	struct start *start = context;
	const char *script = name;

	(void)directory;
	start->any = true;
	if (name[0] == 'S' && name[1] >= '0' && name[1] <= '9' && name[2] >= '0' && name[2] <= '9')
		script = name + 3;
	for (size_t i = 0; i < sizeof enabled / sizeof enabled[0]; i++)
		if ((enabled[i].unit && strcmp(name, enabled[i].unit) == 0) ||
		    (enabled[i].script && strcmp(script, enabled[i].script) == 0))
			start->source = enabled[i].source;
	return !start->source;
}

/* An image: what it will start. */
static void
service_of_image(struct probe *p)
{
	struct start start = {NULL, false};

	for (size_t i = 0; i < sizeof starts / sizeof starts[0] && !start.source; i++)
		(void)!source_list(p->source, starts[i], SOURCE_NAMES, take_start, &start);
	if (start.source || start.any)
		facts_set_text(p->facts, FACT_CLOCK_SOURCE, start.source ? start.source : "none");
	else
		facts_unknown(p->facts, FACT_CLOCK_SOURCE, COLLECT_IMAGE);
}

void
probe_clock(struct probe *p)
{
	struct timex now = {.modes = 0};

	if (!source_is_live(p->source)) {
		service_of_image(p);
		for (unsigned fact = FACT_CLOCK_SYNCHRONISED; fact <= FACT_CLOCK_MAX_ERROR; fact++)
			if (fact != FACT_CLOCK_SOURCE)
				facts_unknown(p->facts, (enum fact)fact, COLLECT_IMAGE);
		return;
	}
	service(p);
	if (adjtimex(&now) < 0) {
		for (unsigned fact = FACT_CLOCK_SYNCHRONISED; fact <= FACT_CLOCK_MAX_ERROR; fact++)
			if (fact != FACT_CLOCK_SOURCE)
				facts_unknown(p->facts, (enum fact)fact, "adjtimex is refused");
		return;
	}
	/* STA_UNSYNC says less: who does not want the kernel to set the hardware's clock sets it as well, as chronyd does without rtcsync. */
	facts_set_bool(p->facts, FACT_CLOCK_SYNCHRONISED, now.maxerror < UNBOUNDED_US);
	facts_set_number(p->facts, FACT_CLOCK_OFFSET, (double)now.offset / (now.status & STA_NANO ? 1e9 : 1e6));
	facts_set_number(p->facts, FACT_CLOCK_MAX_ERROR, (double)now.maxerror / 1e6);
}
