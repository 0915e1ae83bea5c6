/*
 * Takes in the devices and keys that a batch brings with it, in a transaction before the batch's: a device that is known and has sent nothing yet is
 * no harm, and memory never holds one that is not in the database.
 */
#ifndef FLEETSTATE_COLLECTOR_ADMIT_H
#define FLEETSTATE_COLLECTOR_ADMIT_H

#include "collector/keyring.h"
#include "collector/message.h"
#include "collector/transaction.h"

/* After DONE each message that brought a chain has its device, or is refused. Done twice it does no more than once. */
enum outcome admit(struct transaction *, struct keyring *, struct message **, size_t n) WARN_UNUSED;

#endif
