#!/bin/bash
# A sweep as a SLURM array, without an engine: every task of the array is a worker, and works out its own part.
#
#     sbatch slurm_array.sh EleutherAI/pythia-410m --benchmark paper --results results/mine
#     sbatch --array=1-32 --partition=gpu --gpus-per-node=1 slurm_array.sh ...
#     midlayer-leaderboard status results/mine
#
# The results folder has to be one that all nodes see. Submit again at any time, with any number of tasks: what is
# finished, and what another worker is at, is passed over.
#SBATCH --job-name=midlayer
#SBATCH --array=1-8
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=1-00:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=midlayer-%A_%a.log
#SBATCH --signal=B:USR1@120

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK

# Two minutes before its time is up, SLURM sends the signal above. The worker gives back what it has claimed, and the
# task goes back into the queue.
again() {
    kill -TERM "$worker"
    wait "$worker"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap again USR1

midlayer-leaderboard run "$@" --shard auto &
worker=$!
wait "$worker"
