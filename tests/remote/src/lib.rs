//! Tests of data sets in object stores, in a package of their own: so only they compile a client and a server. Left out:
//! everything but the folder `tests`.
