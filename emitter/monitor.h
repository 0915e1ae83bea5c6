/*
 * The device's own verdict: from the facts, the status of each key element of NISTIR 8259 Table 1, and whether the device is as expected.
 */
#ifndef FLEETSTATE_MONITOR_H
#define FLEETSTATE_MONITOR_H

#include "schema/facts.h"

/*
 * A rule: this holds of that fact, so the element is in that status. An element's rules stand in order and the first that holds decides. But that
 * all is well is only said when every fact that could have told otherwise before is known: not known is never healthy.
 */
enum rule_test {
	TEST_KNOWN,
	TEST_TRUE,
	TEST_FALSE,
	TEST_IS,	/* the text is `text` */
	TEST_BEGINS,	/* the text begins with it */
	TEST_SOME,	/* the list is not empty */
	TEST_NONE,	/* it is */
	TEST_LISTS,	/* one of its texts has `text` in it */
	TEST_ABOVE,	/* the number is above `number` */
	TEST_BELOW
};

struct rule {
	enum fact element, fact;
	enum rule_test test;
	enum status status;
	const char *words;	/* why; % stands for the fact's value */
	const char *text;
	double number;
	enum fact given;	/* asked only if this flag is true; 0: always */
	bool optional;		/* that the fact is not known means nothing */
	bool live;		/* only a running system has the fact: an image is judged without it */
};
extern const struct rule monitor_rules[];
extern const size_t monitor_rules_len;

/* Sets the facts of `elements` and `verdict` from all the others. `declared` says "LA.1=text; DP.2=text" of elements that nothing can be seen of;
   NULL: none. Pure. */
void monitor_judge(struct facts *, const char *declared);

/* The element of that name, "DI.1"; FACTS if there is none. */
enum fact monitor_element(struct slice name);

#endif
