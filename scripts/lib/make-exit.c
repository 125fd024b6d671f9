/* A function for GNU make, `$(exit N)`: ends make with status N.
 *
 * make itself knows one status for every failure, 2, but `make run` promises the
 * firmware's. The prototypes are those of GNU make's manual, "Loaded Object
 * Interface"; its gnumake.h is not installed everywhere.
 */
#include <stdlib.h>

typedef char *(*function)(const char *name, unsigned int count, char **arguments);
void gmk_add_function(const char *name, function called, unsigned int least,
                      unsigned int most, unsigned int flags);

/* GNU make loads objects only if they define this. */
int plugin_is_GPL_compatible;

static char *leave(const char *name, unsigned int count, char **arguments)
{
    (void)name;
    (void)count;
    exit(atoi(arguments[0]));
}

int exit_gmk_setup(const void *location)
{
    (void)location;
    gmk_add_function("exit", leave, 1, 1, 0);
    return 1;
}
