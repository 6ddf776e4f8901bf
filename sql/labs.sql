-- The last creatinine and potassium of each stay's patient by the prediction time, for safety screening.
--
-- Grain:  one row per stay with a value; none where the run does not read labevents
-- Key:    hadm_id
-- Inputs: admissions, prediction_times, raw.labevents, seed.labs, seed.rules
-- Known:  at predict_time: by storetime, when the result was released; where that is missing, by charttime
-- Source: MIMIC-IV v3.1, hosp.labevents; eGFR by CKD-EPI 2021, Inker et al., NEJM 2021;385:1737
--
-- eGFR = 142 * min(Scr/k, 1)^a * max(Scr/k, 1)^-1.2 * 0.9938^age (* 1.012 if female), mL/min/1.73 m2, with
-- k 0.7 and a -0.241 for women, k 0.9 and a -0.302 for men. Example: creatinine 1.0, a man of 60: 86. Not known
-- where sex or creatinine is not: least() and greatest() would pass over the NULL.

WITH resulted AS (
    SELECT
        events.subject_id,
        labs.quantity,
        coalesce(events.storetime, events.charttime) AS resulted_at,
        events.valuenum
    FROM raw.labevents AS events
    INNER JOIN seed.labs AS labs USING (itemid)
    INNER JOIN seed.rules AS rules
        ON rules.rule = labs.quantity
        AND events.valuenum BETWEEN rules.low AND rules.high
),

last_values AS (
    SELECT
        times.hadm_id,
        arg_max(valuenum, (resulted_at, valuenum)) FILTER (WHERE quantity = 'creatinine_mg_dl') AS creatinine_mg_dl,
        arg_max(valuenum, (resulted_at, valuenum)) FILTER (WHERE quantity = 'potassium_meq_l') AS potassium_meq_l
    FROM prediction_times AS times
    INNER JOIN resulted
        ON resulted.subject_id = times.subject_id
        AND resulted.resulted_at <= times.predict_time
    GROUP BY times.hadm_id
)

SELECT
    last_values.hadm_id,
    last_values.creatinine_mg_dl,
    last_values.potassium_meq_l,
    CASE admissions.sex WHEN 'F' THEN 0.7 WHEN 'M' THEN 0.9 END AS k,
    CASE WHEN k IS NOT NULL AND last_values.creatinine_mg_dl IS NOT NULL THEN 142
    * pow(least(last_values.creatinine_mg_dl / k, 1), CASE admissions.sex WHEN 'F' THEN -0.241 ELSE -0.302 END)
    * pow(greatest(last_values.creatinine_mg_dl / k, 1), -1.2)
    * pow(0.9938, admissions.age)
    * CASE admissions.sex WHEN 'F' THEN 1.012 ELSE 1 END
    END AS egfr
FROM last_values
INNER JOIN admissions USING (hadm_id)
