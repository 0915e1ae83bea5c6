/*
 * Which of two versions is the newer one, in the order that each kind of package has for its own versions: deb-version(7), rpm's EVR,
 * apk-package(5), and Semantic Versioning 2.0.0.
 */
#ifndef FLEETSTATE_VERSION_H
#define FLEETSTATE_VERSION_H

#include <stdbool.h>

#include "schema/slice.h"

enum version_order { VERSION_DEBIAN, VERSION_RPM, VERSION_APK, VERSION_SEMVER, VERSION_ORDERS };
const char *version_order_name(enum version_order);	/* "debian", as a purl's type has it */

/* Below, at or above 0 as `a` is the older one, neither, or the newer one. Every text has its place, also one that is no version, so that the order
   is total; numbers may be of any length. */
int version_compare(enum version_order, struct slice a, struct slice b) WARN_UNUSED;

#endif
