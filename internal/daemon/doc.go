// Package daemon serves the Docker Engine API (versions 1.24 to 1.47) on a unix
// socket, so that Docker's own client, Compose and what speaks to a Docker
// daemon run containers by Skerry's engine. Who can open the socket is root on
// the machine, as with Docker's.
//
// # What is where
//
//	daemon/containers   id -> name, what was asked for (Docker's JSON), what the
//	                    engine was told, state; found by name, network, volume
//	daemon/execs        id -> the programs of docker exec; found by container
//	daemon/networks     id -> name, subnet
//	daemon/volumes      name -> labels; the files are in <dir>/volumes/<name>/_data
//
// The containers themselves are the engine's, under the same ids. Events, who is
// attached and who waits are in memory alone.
//
// # A container's states
//
//	create -> created -> start -> running <-> paused
//	                       ^        |
//	                       |      exits
//	        restarting <---+--------+---> exited -> remove -> gone
//	            (its policy)        +---> removing (--rm) --> gone
//
// Every change of a state is made by one of two: the client's call, or the end
// of a run, which the engine's events tell the container loop. Both hold the
// container's lock. After a kill of the server the loop compares the rows with
// the engine's list, and goes on.
//
// A full disk takes no rows, but programs end all the same. What has happened is
// then kept in memory (see late) as part of the rows, and written when there is
// room; whatever stops, kills and removes works meanwhile, and gives room.
//
// # What is left out
//
// These answer 501 and say so: docker build, search, swarm mode, plugins,
// checkpoints, attaching by WebSocket; IPv6, MAC addresses, options of networks and
// volume drivers; and the settings that refuse lists. Unlike Docker's:
//
//   - a link is a name and no environment variables;
//   - a pull without a tag is one of latest, not of all tags;
//   - the address of a container is its own until it is removed, not until it
//     stops;
//   - a container without a limit of processes has none;
//   - a container that was made in the default network with --dns resolves no names
//     of networks that it is connected to later;
//   - the log of json-file without max-size is bounded (the engine's 256 MiB);
//   - the machine's services cannot be reached from a network, so there is no
//     host-gateway;
//   - when the server stops, programs of docker exec end; containers go on.
package daemon
