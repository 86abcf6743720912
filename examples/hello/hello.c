#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--check") == 0) {
        puts("hello: check passed");
        return 0;
    }
    puts("Hello from a package that firn evaluated, built in its sandbox and ran.");
    return 0;
}
