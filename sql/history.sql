-- The drugs of each patient's previous admission, as far as they were ordered by the prediction time.
--
-- Grain:  one row per stay with an earlier stay that has drugs
-- Key:    hadm_id
-- Inputs: admissions, drug_lists, prediction_times
-- Known:  at predict_time
-- Source: MIMIC-IV v3.1, hosp.admissions and hosp.prescriptions
--
-- The previous admission is the last one that began before this one and has any drug by then: an observation
-- stay without orders does not hide what the patient took before. Example: stays A (drugs), B (none), C: the
-- previous drugs of C are those of A. Stays can overlap, so each drug is looked at: what an earlier stay ordered
-- after the prediction time is not known.

WITH previous AS (
    SELECT
        times.hadm_id,
        times.predict_time,
        max({'admittime': earlier.admittime, 'hadm_id': earlier.hadm_id}).hadm_id AS previous_hadm_id
    FROM prediction_times AS times
    INNER JOIN admissions AS earlier
        ON earlier.subject_id = times.subject_id
        AND earlier.admittime <= times.admittime
        AND (earlier.admittime < times.admittime OR earlier.hadm_id < times.hadm_id)
    INNER JOIN drug_lists
        ON drug_lists.hadm_id = earlier.hadm_id
        AND drug_lists.known_from <= times.predict_time
    GROUP BY times.hadm_id, times.predict_time
)

SELECT
    previous.hadm_id,
    previous.previous_hadm_id,
    list_transform(
        list_filter(drug_lists.ordered, lambda o: o.first_order <= previous.predict_time), lambda o: o.drug
    ) AS previous_drugs
FROM previous
INNER JOIN drug_lists ON drug_lists.hadm_id = previous.previous_hadm_id
