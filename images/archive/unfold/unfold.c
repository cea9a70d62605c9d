/* Keeps this container's processes from unfolding deflated data sets (PS3.5 A.5), of which a megabyte becomes a
   gigabyte in memory.

   Orthanc's DICOMweb plugin parses each part of a STOW-RS request before anything of ours is asked, and DCMTK unfolds
   while it parses: a list of accepted transfer syntaxes comes too late there. DCMTK reads deflated data sets as raw
   deflate streams, which have negative window bits, and nothing else here does: PNG and the zip files that Orthanc
   hands out are other kinds, or are written only. /etc/ld.so.preload loads this library; our Python plugin ends
   Orthanc without it, and allows these streams where the archive's spec lists such a transfer syntax. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

#define Z_MEM_ERROR (-4)

typedef int (*init_function)(void *stream, int window_bits, const char *version, int stream_size);
typedef int (*end_function)(void *stream);

int inflateInit2_(void *stream, int window_bits, const char *version, int stream_size)
{
    const init_function begin = (init_function)dlsym(RTLD_NEXT, "inflateInit2_");
    const end_function end = (end_function)dlsym(RTLD_NEXT, "inflateEnd");
    int result;

    if (begin == NULL || end == NULL)
        return Z_MEM_ERROR;
    result = begin(stream, window_bits, version, stream_size); /* refused or not: it sets fields that callers read */
    if (window_bits >= 0 || getenv("PACS_RAW_DEFLATE") != NULL)
        return result;
    if (result == 0)
        end(stream);
    return Z_MEM_ERROR;
}
